/* The compiled version of `unread.py`, which says what each method promises. */

#include "_speedups.h"

#define UNLIMITED ((Py_ssize_t)1 << 62) /* as in unread.py */
#define COMPACT_FROM 1024 /* taken items; moving the rest forward for fewer costs more than their memory */

Py_ssize_t
unread_count(UnreadQueue *self)
{
    return PyList_GET_SIZE(self->items) - self->head;
}

/* -- chunks: named tuples of `events.py`, whose fields are read by position ----------------------------- */

enum { KIND, PAYLOAD, LAST, COMPRESSED, FIELDS };

static int
is_well_formed_chunk(ModuleState *state, PyObject *item)
{
    return PyObject_TypeCheck(item, state->chunk) && PyTuple_Check(item) && PyTuple_GET_SIZE(item) == FIELDS
           && PyUnicode_Check(PyTuple_GET_ITEM(item, KIND)) && PyBytes_Check(PyTuple_GET_ITEM(item, PAYLOAD));
}

/* -- the queue ------------------------------------------------------------------------------------------ */

/* Take the first item, which there must be; a new reference. Runs no Python code. */
static inline PyObject *
take_first(UnreadQueue *self)
{
    PyObject *item = PyList_GET_ITEM(self->items, self->head);
    PyList_SET_ITEM(self->items, self->head, Py_NewRef(Py_None));
    self->head++;
    if (unread_count(self) == 0 || (self->head >= COMPACT_FROM && self->head > unread_count(self))) {
        if (PyList_SetSlice(self->items, 0, self->head, NULL) == 0) {
            self->head = 0;
        }
        else {
            PyErr_Clear(); /* out of memory: the next call tries again */
        }
    }
    return item;
}

/* The size of a message in bytes, for text as UTF-8; -1: `item` is a chunk. */
static Py_ssize_t
size_of(PyObject *item)
{
    Py_ssize_t size = 0, i;
    if (PyBytes_Check(item)) {
        return PyBytes_GET_SIZE(item);
    }
    if (!PyUnicode_Check(item)) {
        return -1;
    }
    if (PyUnicode_IS_ASCII(item)) {
        return PyUnicode_GET_LENGTH(item);
    }
    for (i = 0; i < PyUnicode_GET_LENGTH(item); i++) {
        Py_UCS4 c = PyUnicode_READ_CHAR(item, i);
        size += c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    }
    return size;
}

/* The next three functions take the chunks that `take_chunks` has counted. Asking a field for its truth and
   dropping a chunk may run Python code that changes the queue, so each chunk is checked again. */

/* The payload of the first of `size` chunks, which have `total` bytes. */
static PyObject *
take_payload(UnreadQueue *self, ModuleState *state, Py_ssize_t size, Py_ssize_t total)
{
    PyObject *payload = NULL, *chunk = unread_count(self) > 0 ? take_first(self) : NULL;
    if (chunk != NULL && is_well_formed_chunk(state, chunk)) {
        Py_ssize_t length = PyBytes_GET_SIZE(PyTuple_GET_ITEM(chunk, PAYLOAD));
        if (size == 1 ? length == total : length <= total) {
            payload = Py_NewRef(PyTuple_GET_ITEM(chunk, PAYLOAD));
        }
    }
    if (payload == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the queue was changed while a message was taken from it");
    }
    Py_XDECREF(chunk);
    return payload;
}

/* The payloads of `size` chunks, which have `total` bytes, joined. */
static PyObject *
take_joined(UnreadQueue *self, ModuleState *state, Py_ssize_t size, Py_ssize_t total)
{
    PyObject *payload, *joined = PyBytes_FromStringAndSize(NULL, total);
    char *out;
    if (joined == NULL) {
        return NULL;
    }
    self->cost -= total + size * PIECE_OVERHEAD;
    for (out = PyBytes_AS_STRING(joined); size > 0; size--) {
        if ((payload = take_payload(self, state, size, total)) == NULL) {
            Py_DECREF(joined);
            return NULL;
        }
        memcpy(out, PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload));
        out += PyBytes_GET_SIZE(payload);
        total -= PyBytes_GET_SIZE(payload);
        Py_DECREF(payload);
    }
    return joined;
}

/* A compressed message in one chunk, inflated; NULL without an exception: that needs more than one step. */
static PyObject *
take_inflated(UnreadQueue *self, Py_ssize_t limit, Py_ssize_t total)
{
    PyObject *chunk = unread_count(self) > 0 ? take_first(self) : Py_NewRef(Py_None);
    PyObject *args[] = {chunk, PyLong_FromSsize_t(limit)};
    PyObject *result = NULL, *inflate = Py_NewRef(self->inflate); /* the call may replace it */
    self->cost -= total + PIECE_OVERHEAD;
    if (args[1] != NULL) {
        result = PyObject_Vectorcall(inflate, args, 2, NULL);
        Py_DECREF(args[1]);
    }
    Py_DECREF(chunk);
    Py_DECREF(inflate);
    if (result == Py_None) {
        Py_CLEAR(result);
    }
    return result;
}

/* Take the message that begins with the first item, a chunk; a new reference. NULL without an exception: it
   cannot be taken now, see `unread.py`. */
Py_NO_INLINE static PyObject *
take_chunks(UnreadQueue *self, Py_ssize_t limit, Py_ssize_t low_water)
{
    ModuleState *state = PyType_GetModuleState(Py_TYPE(self));
    Py_ssize_t size = 0, total = 0;
    int text = 0, compressed = 0, last = 0;
    PyObject *joined, *result;
    if (state == NULL) {
        return NULL;
    }
    while (!last) {
        PyObject *chunk;
        if (size >= unread_count(self)) {
            return NULL;
        }
        chunk = PyList_GET_ITEM(self->items, self->head + size);
        if (!is_well_formed_chunk(state, chunk)) {
            PyErr_SetString(PyExc_AssertionError, "the chunks of a message must not be interrupted");
            return NULL;
        }
        total += PyBytes_GET_SIZE(PyTuple_GET_ITEM(chunk, PAYLOAD));
        Py_INCREF(chunk);
        if (size++ == 0) {
            text = PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(chunk, KIND), "text") == 0;
            compressed = PyObject_IsTrue(PyTuple_GET_ITEM(chunk, COMPRESSED));
        }
        last = compressed < 0 ? -1 : PyObject_IsTrue(PyTuple_GET_ITEM(chunk, LAST));
        Py_DECREF(chunk);
        if (last < 0 || self->cost - total - size * PIECE_OVERHEAD <= low_water
            || (compressed ? !last || self->inflate == NULL || self->inflate == Py_None : total > limit)) {
            return NULL;
        }
    }
    if (compressed) {
        return take_inflated(self, limit, total);
    }
    if (size == 1) {
        self->cost -= total + PIECE_OVERHEAD;
        joined = take_payload(self, state, 1, total);
    }
    else {
        joined = take_joined(self, state, size, total);
    }
    if (joined == NULL || !text) {
        return joined;
    }
    result = PyUnicode_DecodeUTF8(PyBytes_AS_STRING(joined), PyBytes_GET_SIZE(joined), NULL);
    Py_DECREF(joined);
    return result;
}

/* A new reference; NULL without an exception: no message can be taken now. */
static PyObject *
take_message(UnreadQueue *self, Py_ssize_t limit, Py_ssize_t low_water)
{
    Py_ssize_t size, left;
    if (unread_count(self) == 0) {
        return NULL;
    }
    size = size_of(PyList_GET_ITEM(self->items, self->head));
    if (size < 0) {
        return take_chunks(self, limit, low_water);
    }
    left = self->cost - size - PIECE_OVERHEAD;
    if (size > limit || left <= low_water) {
        return NULL;
    }
    self->cost = left;
    return take_first(self);
}

PyObject *
take_message_now(UnreadQueue *self)
{
    return self->closed_for ? NULL : take_message(self, self->limit, self->low_water);
}

static PyObject *
unread_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"limit", NULL};
    Py_ssize_t limit = UNLIMITED;
    UnreadQueue *self;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|n", names, &limit)
        || (self = (UnreadQueue *)type->tp_alloc(type, 0)) == NULL) {
        return NULL;
    }
    self->limit = limit;
    self->low_water = -1;
    if ((self->items = PyList_New(0)) == NULL) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static int
unread_traverse(UnreadQueue *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->items);
    Py_VISIT(self->inflate);
    return 0;
}

static int
unread_clear_references(UnreadQueue *self) /* not `items`, which every method needs */
{
    Py_CLEAR(self->inflate);
    return 0;
}

static void
unread_dealloc(UnreadQueue *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Py_XDECREF(self->items);
    Py_XDECREF(self->inflate);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyObject *
unread_iter(UnreadQueue *self)
{
    PyObject *result = NULL, *now = PyList_GetSlice(self->items, self->head, PyList_GET_SIZE(self->items));
    if (now != NULL) {
        result = PyObject_GetIter(now);
        Py_DECREF(now);
    }
    return result;
}

static PyObject *
unread_extend(UnreadQueue *self, PyObject *args)
{
    PyObject *items;
    Py_ssize_t cost;
    if (!PyArg_ParseTuple(args, "O!n", &PyList_Type, &items, &cost)
        || PyList_SetSlice(self->items, PY_SSIZE_T_MAX, PY_SSIZE_T_MAX, items) < 0) {
        return NULL;
    }
    self->cost += cost;
    Py_RETURN_NONE;
}

static PyObject *
unread_take_message_now(UnreadQueue *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *message = take_message_now(self);
    return message != NULL || PyErr_Occurred() ? message : Py_NewRef(Py_None);
}

static PyObject *
unread_take_message(UnreadQueue *self, PyObject *limit)
{
    Py_ssize_t most = PyLong_AsSsize_t(limit);
    PyObject *message = PyErr_Occurred() ? NULL : take_message(self, most, -1);
    return message != NULL || PyErr_Occurred() ? message : Py_NewRef(Py_None);
}

static PyObject *
unread_front(UnreadQueue *self, PyObject *Py_UNUSED(ignored))
{
    return Py_NewRef(unread_count(self) == 0 ? Py_None : PyList_GET_ITEM(self->items, self->head));
}

static PyObject *
unread_take_raw(UnreadQueue *self, PyObject *Py_UNUSED(ignored))
{
    if (unread_count(self) == 0) {
        PyErr_SetString(PyExc_IndexError, "the queue is empty");
        return NULL;
    }
    return take_first(self);
}

static PyObject *
unread_wake(UnreadQueue *self, PyObject *args)
{
    int at_once = 0, woken;
    if (!PyArg_ParseTuple(args, "|p", &at_once)) {
        return NULL;
    }
    woken = wake_parked(self, at_once);
    return woken < 0 ? NULL : PyBool_FromLong(woken);
}

static PyObject *
unread_parked(UnreadQueue *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(self->parked != NULL);
}

static PyObject *
unread_clear(UnreadQueue *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *items = PyList_New(0);
    if (items == NULL) {
        return NULL;
    }
    self->head = self->cost = 0;
    Py_SETREF(self->items, items); /* last: dropping the items may run code that calls this object */
    Py_RETURN_NONE;
}

static PyMethodDef unread_methods[] = {
    {"extend", (PyCFunction)unread_extend, METH_VARARGS, NULL},
    {"take_message_now", (PyCFunction)unread_take_message_now, METH_NOARGS, NULL},
    {"take_message", (PyCFunction)unread_take_message, METH_O, NULL},
    {"front", (PyCFunction)unread_front, METH_NOARGS, NULL},
    {"take_raw", (PyCFunction)unread_take_raw, METH_NOARGS, NULL},
    {"wake", (PyCFunction)unread_wake, METH_VARARGS, NULL},
    {"clear", (PyCFunction)unread_clear, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef unread_members[] = {
    {"cost", T_PYSSIZET, offsetof(UnreadQueue, cost), 0, NULL},
    {"limit", T_PYSSIZET, offsetof(UnreadQueue, limit), 0, NULL},
    {"low_water", T_PYSSIZET, offsetof(UnreadQueue, low_water), 0, NULL},
    {"closed_for", T_PYSSIZET, offsetof(UnreadQueue, closed_for), 0, NULL},
    {"inflate", T_OBJECT, offsetof(UnreadQueue, inflate), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef unread_properties[] = {
    {"parked", (getter)unread_parked, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot unread_slots[] = {
    {Py_tp_doc, "see unread.py"},
    {Py_tp_new, unread_new},
    {Py_tp_traverse, unread_traverse},
    {Py_tp_clear, unread_clear_references},
    {Py_tp_dealloc, unread_dealloc},
    {Py_tp_iter, unread_iter},
    {Py_sq_length, unread_count},
    {Py_tp_methods, unread_methods},
    {Py_tp_members, unread_members},
    {Py_tp_getset, unread_properties},
    {0, NULL},
};

PyType_Spec unread_queue_spec = {
    .name = "wsstream.codec._speedups.UnreadQueue",
    .basicsize = sizeof(UnreadQueue),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = unread_slots,
};
