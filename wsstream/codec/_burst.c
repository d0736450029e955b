/* The compiled twin of `burst.py`, which says what everything here promises. */

#include "_speedups.h"
#include <structmember.h>

#define FULL (64 * 1024)
#define LARGEST (16 * 1024)
#define LEAST_CAPACITY 4096

typedef struct {
    PyObject_HEAD
    PyObject *buffer; /* bytes of some capacity, or NULL */
    Py_ssize_t used;
    PyObject *next_key; /* NULL: frames are not masked */
    Py_ssize_t shut;
    Py_ssize_t room;
    Py_ssize_t left;
} Burst;

/* Room for `size` bytes more; -1 with an exception, and what waits is as it was. */
static int
reserve(Burst *self, Py_ssize_t size)
{
    Py_ssize_t capacity = self->buffer == NULL ? 0 : PyBytes_GET_SIZE(self->buffer);
    PyObject *larger;
    if (size <= capacity - self->used) {
        return 0;
    }
    if (size > PY_SSIZE_T_MAX / 4 - self->used) {
        PyErr_NoMemory();
        return -1;
    }
    capacity = Py_MAX(LEAST_CAPACITY, Py_MAX(2 * capacity, self->used + size));
    larger = PyBytes_FromStringAndSize(NULL, capacity);
    if (larger == NULL) {
        return -1;
    }
    if (self->used > 0) {
        memcpy(PyBytes_AS_STRING(larger), PyBytes_AS_STRING(self->buffer), self->used);
    }
    Py_XSETREF(self->buffer, larger);
    return 0;
}

/* -1 with an exception, and what waits is as it was. */
static int
append(Burst *self, int first, const uint8_t *payload, Py_ssize_t length)
{
    const uint8_t *mask = NULL;
    PyObject *key = NULL;
    Py_ssize_t size;
    int failed = 1;
    if (self->next_key != NULL
        && ((key = PyObject_CallNoArgs(self->next_key)) == NULL || (mask = key_bytes(key)) == NULL)) {
        Py_XDECREF(key);
        return -1;
    }
    size = length > PY_SSIZE_T_MAX / 8 ? length : (Py_ssize_t)header_size(length, mask != NULL) + length;
    if (reserve(self, size) == 0) {
        write_frame((uint8_t *)PyBytes_AS_STRING(self->buffer) + self->used, first, payload, length, mask);
        self->used += size;
        failed = 0;
    }
    Py_XDECREF(key);
    return failed ? -1 : 0;
}

static PyObject *
burst_put(Burst *self, PyObject *item)
{
    const char *payload;
    Py_ssize_t length;
    PyObject *encoded = NULL;
    int first = 0x82, failed;

    if (self->shut || self->used == 0 || self->used >= self->room) {
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
    self->left--;
    return PyBool_FromLong(self->left <= 0 || self->used >= Py_MIN(self->room, FULL));
}

static PyObject *
burst_begin(Burst *self, PyObject *args)
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
burst_take(Burst *self, PyObject *Py_UNUSED(ignored))
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

static int
burst_init(Burst *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"next_key", NULL};
    PyObject *next_key = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O", names, &next_key)) {
        return -1;
    }
    Py_XSETREF(self->next_key, next_key == Py_None ? NULL : Py_NewRef(next_key));
    Py_CLEAR(self->buffer);
    self->used = self->shut = self->left = 0;
    self->room = FULL;
    return 0;
}

static int
burst_traverse(Burst *self, visitproc visit, void *arg)
{
    Py_VISIT(self->next_key);
    return 0;
}

static int
burst_clear(Burst *self)
{
    Py_CLEAR(self->next_key);
    return 0;
}

static void
burst_dealloc(Burst *self)
{
    PyObject_GC_UnTrack(self);
    Py_XDECREF(self->next_key);
    Py_XDECREF(self->buffer);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static Py_ssize_t
burst_length(Burst *self)
{
    return self->used;
}

static PyMethodDef burst_methods[] = {
    {"begin", (PyCFunction)burst_begin, METH_VARARGS, NULL},
    {"put", (PyCFunction)burst_put, METH_O, NULL},
    {"take", (PyCFunction)burst_take, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef burst_members[] = {
    {"shut", T_PYSSIZET, offsetof(Burst, shut), 0, NULL},
    {"room", T_PYSSIZET, offsetof(Burst, room), 0, NULL},
    {"left", T_PYSSIZET, offsetof(Burst, left), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PySequenceMethods burst_sequence = {.sq_length = (lenfunc)burst_length};

PyTypeObject Burst_Type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "wsstream.codec._speedups.Burst",
    .tp_basicsize = sizeof(Burst),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_doc = "see burst.py",
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)burst_init,
    .tp_traverse = (traverseproc)burst_traverse,
    .tp_clear = (inquiry)burst_clear,
    .tp_dealloc = (destructor)burst_dealloc,
    .tp_as_sequence = &burst_sequence,
    .tp_methods = burst_methods,
    .tp_members = burst_members,
};
