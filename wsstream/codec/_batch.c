/* The compiled version of `batch.py`, which says what each method promises. */

#include "_speedups.h"

#define FULL (64 * 1024)    /* as in batch.py */
#define LARGEST (16 * 1024) /* as in batch.py */
#define LEAST_CAPACITY 4096

/* Bytes: twice this, with a header, is still a Py_ssize_t. */
#define MOST_WAITING (PY_SSIZE_T_MAX / 2 - MAX_HEADER)

typedef struct {
    PyObject_HEAD
    PyObject *buffer; /* bytes of some capacity, or NULL */
    Py_ssize_t used;
    PyObject *next_key; /* NULL: frames are not masked */
    Py_ssize_t closed_for;
    Py_ssize_t capacity;
    Py_ssize_t sends_until_yield;
} FrameBatch;

/* Make room for a frame of `length` bytes of payload; -1 with an exception, and what waits is unchanged. */
static int
reserve(FrameBatch *self, Py_ssize_t length)
{
    Py_ssize_t needed, capacity = self->buffer == NULL ? 0 : PyBytes_GET_SIZE(self->buffer);
    PyObject *larger;
    if (length > MOST_WAITING - self->used) {
        PyErr_NoMemory();
        return -1;
    }
    needed = self->used + MAX_HEADER + length;
    if (needed <= capacity) {
        return 0;
    }
    larger = PyBytes_FromStringAndSize(NULL, Py_MAX(LEAST_CAPACITY, Py_MAX(needed, 2 * self->used)));
    if (larger == NULL) {
        return -1;
    }
    if (self->used > 0) {
        memcpy(PyBytes_AS_STRING(larger), PyBytes_AS_STRING(self->buffer), self->used);
    }
    Py_XSETREF(self->buffer, larger);
    return 0;
}

/* Append a frame; -1 with an exception, and what waits is unchanged. */
static int
append(FrameBatch *self, int first, const uint8_t *payload, Py_ssize_t length)
{
    const uint8_t *mask = NULL;
    PyObject *key = NULL;
    int failed = self->next_key != NULL
                 && ((key = PyObject_CallNoArgs(self->next_key)) == NULL || (mask = key_bytes(key)) == NULL);
    if (!failed && (failed = reserve(self, length)) == 0) {
        write_frame((uint8_t *)PyBytes_AS_STRING(self->buffer) + self->used, first, payload, length, mask);
        self->used += (Py_ssize_t)header_size(length, mask != NULL) + length;
    }
    Py_XDECREF(key);
    return failed ? -1 : 0;
}

static PyObject *
batch_put(FrameBatch *self, PyObject *item)
{
    const char *payload;
    Py_ssize_t length;
    PyObject *encoded = NULL;
    int first = 0x82, failed;

    if (self->closed_for || self->used == 0 || self->used >= self->capacity) {
        Py_RETURN_NONE;
    }
    if (PyBytes_CheckExact(item)) {
        payload = PyBytes_AS_STRING(item);
        length = PyBytes_GET_SIZE(item);
    }
    else if (!PyUnicode_CheckExact(item)) {
        Py_RETURN_NONE;
    }
    else {
        first = 0x81;
        if (PyUnicode_IS_COMPACT_ASCII(item)) {
            payload = (const char *)PyUnicode_1BYTE_DATA(item);
            length = PyUnicode_GET_LENGTH(item);
        }
        else {
            if ((encoded = PyUnicode_AsUTF8String(item)) == NULL) {
                return NULL;
            }
            payload = PyBytes_AS_STRING(encoded);
            length = PyBytes_GET_SIZE(encoded);
        }
    }
    if (length > LARGEST) {
        Py_XDECREF(encoded);
        Py_RETURN_NONE;
    }
    failed = append(self, first, (const uint8_t *)payload, length);
    Py_XDECREF(encoded);
    if (failed) {
        return NULL;
    }
    self->sends_until_yield--;
    return PyBool_FromLong(self->sends_until_yield <= 0 || self->used >= Py_MIN(self->capacity, FULL));
}

static PyObject *
batch_begin(FrameBatch *self, PyObject *args)
{
    Py_buffer payload;
    unsigned char first;
    int failed;
    if (!PyArg_ParseTuple(args, "by*", &first, &payload)) {
        return NULL;
    }
    failed = append(self, first, payload.buf, payload.len);
    PyBuffer_Release(&payload);
    if (failed) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
batch_take(FrameBatch *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *result = self->buffer;
    Py_ssize_t used = self->used;
    if (result == NULL) {
        return PyBytes_FromStringAndSize(NULL, 0);
    }
    self->buffer = NULL;
    self->used = 0;
    return _PyBytes_Resize(&result, used) < 0 ? NULL : result;
}

static PyObject *
batch_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"next_key", NULL};
    PyObject *next_key = Py_None;
    FrameBatch *self;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O", names, &next_key)
        || (self = (FrameBatch *)type->tp_alloc(type, 0)) == NULL) {
        return NULL;
    }
    self->next_key = next_key == Py_None ? NULL : Py_NewRef(next_key);
    self->capacity = FULL;
    return (PyObject *)self;
}

static int
batch_traverse(FrameBatch *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->next_key);
    return 0;
}

static int
batch_clear(FrameBatch *self)
{
    Py_CLEAR(self->next_key);
    return 0;
}

static void
batch_dealloc(FrameBatch *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Py_XDECREF(self->next_key);
    Py_XDECREF(self->buffer);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static Py_ssize_t
batch_length(FrameBatch *self)
{
    return self->used;
}

static PyMethodDef batch_methods[] = {
    {"begin", (PyCFunction)batch_begin, METH_VARARGS, NULL},
    {"put", (PyCFunction)batch_put, METH_O, NULL},
    {"take", (PyCFunction)batch_take, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef batch_members[] = {
    {"closed_for", T_PYSSIZET, offsetof(FrameBatch, closed_for), 0, NULL},
    {"capacity", T_PYSSIZET, offsetof(FrameBatch, capacity), 0, NULL},
    {"sends_until_yield", T_PYSSIZET, offsetof(FrameBatch, sends_until_yield), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot batch_slots[] = {
    {Py_tp_doc, "see batch.py"},
    {Py_tp_new, batch_new},
    {Py_tp_traverse, batch_traverse},
    {Py_tp_clear, batch_clear},
    {Py_tp_dealloc, batch_dealloc},
    {Py_sq_length, batch_length},
    {Py_tp_methods, batch_methods},
    {Py_tp_members, batch_members},
    {0, NULL},
};

PyType_Spec frame_batch_spec = {
    .name = "wsstream.codec._speedups.FrameBatch",
    .basicsize = sizeof(FrameBatch),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = batch_slots,
};
