/* The compiled twin of `unread.py`, which says what everything here promises. */

#include "_speedups.h"
#include <string.h>
#include <structmember.h>

#define UNLIMITED ((Py_ssize_t)1 << 62)

typedef struct {
    PyObject_HEAD
    PyObject *items; /* a list; what was before `head` has been taken, None is in its place */
    Py_ssize_t head;
    Py_ssize_t cost;
    Py_ssize_t limit;
    Py_ssize_t low_water;
    Py_ssize_t closed_for;
    PyObject *inflate; /* a callable, or None or NULL */
} UnreadQueue;

static Py_ssize_t
count(UnreadQueue *self)
{
    return PyList_GET_SIZE(self->items) - self->head;
}

/* -- chunks: what `events.py` defines, read without a look-up of its fields ---------------------------- */

enum { KIND, PAYLOAD, LAST, COMPRESSED, FIELDS };

static PyTypeObject *chunk_type;
static Py_ssize_t chunk_offsets[FIELDS];

static int
find_chunk_type(void)
{
    static const char *names[FIELDS] = {"kind", "payload", "last", "compressed"};
    PyObject *type, *module = PyImport_ImportModule("wsstream.codec.events");
    int i;
    if (module == NULL) {
        return -1;
    }
    type = PyObject_GetAttrString(module, "Chunk");
    Py_DECREF(module);
    if (type == NULL) {
        return -1;
    }
    for (i = 0; i < FIELDS; i++) {
        PyObject *slot = PyObject_GetAttrString(type, names[i]);
        int found = slot != NULL && Py_IS_TYPE(slot, &PyMemberDescr_Type);
        if (found) {
            chunk_offsets[i] = ((PyMemberDescrObject *)slot)->d_member->offset;
        }
        else if (slot != NULL) {
            PyErr_SetString(PyExc_TypeError, "a Chunk has slots");
        }
        Py_XDECREF(slot);
        if (!found) {
            Py_DECREF(type);
            return -1;
        }
    }
    chunk_type = (PyTypeObject *)type;
    return 0;
}

/* A borrowed reference. */
static PyObject *
chunk_field(PyObject *chunk, int field)
{
    return *(PyObject **)((char *)chunk + chunk_offsets[field]);
}

static PyObject *
chunk_payload(PyObject *chunk)
{
    return chunk_field(chunk, PAYLOAD);
}

/* Whether `item` is a chunk whose fields are what they have to be. */
static int
is_chunk(PyObject *item)
{
    int i;
    if (!Py_IS_TYPE(item, chunk_type)) {
        return 0;
    }
    for (i = 0; i < FIELDS; i++) {
        if (chunk_field(item, i) == NULL) {
            return 0;
        }
    }
    return PyUnicode_Check(chunk_field(item, KIND)) && PyBytes_Check(chunk_payload(item));
}

static int
is_text(PyObject *chunk)
{
    return PyUnicode_CompareWithASCIIString(chunk_field(chunk, KIND), "text") == 0;
}

/* -- the queue ------------------------------------------------------------------------------------------ */

/* A new reference to what was in front; there is something. */
static PyObject *
take_front(UnreadQueue *self)
{
    PyObject *item = PyList_GET_ITEM(self->items, self->head);
    PyList_SET_ITEM(self->items, self->head, Py_NewRef(Py_None));
    self->head++;
    if (count(self) == 0 || (self->head >= 1024 && self->head > count(self))) {
        if (PyList_SetSlice(self->items, 0, self->head, NULL) == 0) {
            self->head = 0;
        }
        else {
            PyErr_Clear(); /* there is no memory for a smaller list: later */
        }
    }
    return item;
}

/* The bytes of a whole message as UTF-8; -1: `item` is a chunk. */
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

/* A message that came in `size` chunks with `total` bytes, the first of which is in front. */
static PyObject *
join_chunks(UnreadQueue *self, Py_ssize_t size, Py_ssize_t total)
{
    PyObject *joined, *result, *chunk = take_front(self);
    int text = is_text(chunk);
    if (size == 1) {
        joined = Py_NewRef(chunk_payload(chunk));
        Py_DECREF(chunk);
    }
    else {
        char *out;
        joined = PyBytes_FromStringAndSize(NULL, total);
        out = joined == NULL ? NULL : PyBytes_AS_STRING(joined);
        for (;;) {
            PyObject *payload = chunk_payload(chunk);
            if (joined != NULL) {
                memcpy(out, PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload));
                out += PyBytes_GET_SIZE(payload);
            }
            Py_DECREF(chunk);
            if (--size == 0) {
                break;
            }
            chunk = take_front(self);
        }
    }
    if (joined == NULL || !text) {
        return joined;
    }
    result = PyUnicode_DecodeUTF8(PyBytes_AS_STRING(joined), PyBytes_GET_SIZE(joined), NULL);
    Py_DECREF(joined);
    return result;
}

/* A new reference; NULL without an exception: there is none to be had, see `unread.py`. */
static PyObject *
take_chunks(UnreadQueue *self, Py_ssize_t limit, Py_ssize_t low_water)
{
    PyObject *chunk, *result, *last = Py_False;
    Py_ssize_t size, total = 0, left = self->cost;
    int compressed = 0, inflates = self->inflate != NULL && self->inflate != Py_None;
    for (size = 0; last != Py_True; size++) {
        if (size == count(self)) {
            return NULL;
        }
        chunk = PyList_GET_ITEM(self->items, self->head + size);
        if (!is_chunk(chunk)) {
            PyErr_SetString(PyExc_AssertionError, "the chunks of a message are not interrupted");
            return NULL;
        }
        last = chunk_field(chunk, LAST);
        compressed = chunk_field(chunk, COMPRESSED) == Py_True;
        total += PyBytes_GET_SIZE(chunk_payload(chunk));
        left -= PyBytes_GET_SIZE(chunk_payload(chunk)) + PIECE_OVERHEAD;
        if (compressed ? last != Py_True || !inflates : total > limit) {
            return NULL;
        }
        if (left <= low_water) {
            return NULL;
        }
    }
    self->cost = left;
    if (!compressed) {
        return join_chunks(self, size, total);
    }
    chunk = take_front(self);
    result = PyObject_CallFunction(self->inflate, "On", chunk, limit);
    Py_DECREF(chunk);
    if (result == Py_None) {
        Py_CLEAR(result);
    }
    return result;
}

/* A new reference; NULL, perhaps with an exception: nothing can be taken. */
static PyObject *
take_message(UnreadQueue *self, Py_ssize_t limit, Py_ssize_t low_water)
{
    Py_ssize_t size, left;
    if (count(self) == 0) {
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
    return take_front(self);
}

static PyObject *
pop_message(UnreadQueue *self)
{
    return self->closed_for ? NULL : take_message(self, self->limit, self->low_water);
}

static int
unread_init(UnreadQueue *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"limit", NULL};
    Py_ssize_t limit = UNLIMITED;
    PyObject *items;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|n", names, &limit) || (items = PyList_New(0)) == NULL) {
        return -1;
    }
    Py_CLEAR(self->inflate);
    self->head = self->cost = self->closed_for = 0;
    self->limit = limit;
    self->low_water = -1;
    Py_SETREF(self->items, items); /* last: what is dropped may call us */
    return 0;
}

static PyObject *
unread_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    UnreadQueue *self = chunk_type == NULL && find_chunk_type() < 0 ? NULL : (UnreadQueue *)type->tp_alloc(type, 0);
    if (self != NULL && (self->items = PyList_New(0)) == NULL) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static int
unread_traverse(UnreadQueue *self, visitproc visit, void *arg)
{
    Py_VISIT(self->items);
    Py_VISIT(self->inflate);
    return 0;
}

static int
unread_clear_references(UnreadQueue *self) /* `items` holds nothing that could refer to this */
{
    Py_CLEAR(self->inflate);
    return 0;
}

static void
unread_dealloc(UnreadQueue *self)
{
    PyObject_GC_UnTrack(self);
    Py_XDECREF(self->items);
    Py_XDECREF(self->inflate);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static Py_ssize_t
unread_length(UnreadQueue *self)
{
    return count(self);
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
    PyObject *message = pop_message(self);
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
    return Py_NewRef(count(self) == 0 ? Py_None : PyList_GET_ITEM(self->items, self->head));
}

static PyObject *
unread_take_raw(UnreadQueue *self, PyObject *Py_UNUSED(ignored))
{
    if (count(self) == 0) {
        PyErr_SetString(PyExc_IndexError, "nothing is here");
        return NULL;
    }
    return take_front(self);
}

static PyObject *
unread_clear(UnreadQueue *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *items = PyList_New(0);
    if (items == NULL) {
        return NULL;
    }
    self->head = self->cost = 0;
    Py_SETREF(self->items, items); /* last, as above */
    Py_RETURN_NONE;
}

static PyMethodDef unread_methods[] = {
    {"extend", (PyCFunction)unread_extend, METH_VARARGS, NULL},
    {"take_message_now", (PyCFunction)unread_take_message_now, METH_NOARGS, NULL},
    {"take_message", (PyCFunction)unread_take_message, METH_O, NULL},
    {"front", (PyCFunction)unread_front, METH_NOARGS, NULL},
    {"take_raw", (PyCFunction)unread_take_raw, METH_NOARGS, NULL},
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

static PySequenceMethods unread_sequence = {.sq_length = (lenfunc)unread_length};

PyTypeObject UnreadQueue_Type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "wsstream.codec._speedups.UnreadQueue",
    .tp_basicsize = sizeof(UnreadQueue),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_doc = "see unread.py",
    .tp_traverse = (traverseproc)unread_traverse,
    .tp_clear = (inquiry)unread_clear_references,
    .tp_new = unread_new,
    .tp_init = (initproc)unread_init,
    .tp_dealloc = (destructor)unread_dealloc,
    .tp_as_sequence = &unread_sequence,
    .tp_iter = (getiterfunc)unread_iter,
    .tp_methods = unread_methods,
    .tp_members = unread_members,
};

/* -- async for ---------------------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    UnreadQueue *queue;
    PyObject *wait;
} MessageIterator;

/* What `__anext__` gives: a coroutine without a frame. Nothing is taken before it is awaited, so that one
   which never is, as in a task that is cancelled before it starts, loses nothing. */
typedef struct {
    PyObject_HEAD
    MessageIterator *messages; /* NULL: it has been awaited */
    PyObject *waiting; /* the coroutine of `wait`, once it was needed */
} Next;

static Next *spare; /* the memory of one; most live no longer than an `await` */

static int
next_wait(Next *self)
{
    MessageIterator *messages = self->messages;
    if (self->waiting != NULL) {
        return 0;
    }
    if (messages == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "this has already been awaited");
        return -1;
    }
    self->messages = NULL;
    self->waiting = PyObject_CallNoArgs(messages->wait);
    Py_DECREF(messages);
    return self->waiting != NULL ? 0 : -1;
}

static PySendResult
next_resume(Next *self, PyObject *sent, PyObject **result)
{
    if (self->messages != NULL && (*result = pop_message(self->messages->queue)) != NULL) {
        Py_CLEAR(self->messages);
        return PYGEN_RETURN;
    }
    if (PyErr_Occurred() || next_wait(self) < 0) {
        *result = NULL;
        return PYGEN_ERROR;
    }
    return PyIter_Send(self->waiting, sent, result);
}

static PyObject *
next_send(Next *self, PyObject *sent)
{
    PyObject *result;
    if (next_resume(self, sent, &result) == PYGEN_RETURN) {
        PyErr_SetObject(PyExc_StopIteration, result);
        Py_CLEAR(result);
    }
    return result;
}

static PyObject *
next_next(Next *self)
{
    return next_send(self, Py_None);
}

static PyObject *
next_throw(Next *self, PyObject *args)
{
    PyObject *method, *result = NULL;
    if (next_wait(self) == 0 && (method = PyObject_GetAttrString(self->waiting, "throw")) != NULL) {
        result = PyObject_CallObject(method, args);
        Py_DECREF(method);
    }
    return result;
}

static PyObject *
next_close(Next *self, PyObject *Py_UNUSED(ignored))
{
    Py_CLEAR(self->messages);
    return self->waiting != NULL ? PyObject_CallMethod(self->waiting, "close", NULL) : Py_NewRef(Py_None);
}

static int
next_traverse(Next *self, visitproc visit, void *arg)
{
    Py_VISIT(self->messages);
    Py_VISIT(self->waiting);
    return 0;
}

static int
next_clear(Next *self)
{
    Py_CLEAR(self->messages);
    Py_CLEAR(self->waiting);
    return 0;
}

static void
next_dealloc(Next *self)
{
    PyObject_GC_UnTrack(self);
    next_clear(self);
    if (spare == NULL) {
        spare = self;
    }
    else {
        PyObject_GC_Del(self);
    }
}

static PyMethodDef next_methods[] = {
    {"send", (PyCFunction)next_send, METH_O, NULL},
    {"throw", (PyCFunction)next_throw, METH_VARARGS, NULL},
    {"close", (PyCFunction)next_close, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyAsyncMethods next_async = {.am_await = PyObject_SelfIter, .am_send = (sendfunc)next_resume};

PyTypeObject Next_Type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "wsstream.codec._speedups.Next",
    .tp_basicsize = sizeof(Next),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_traverse = (traverseproc)next_traverse,
    .tp_clear = (inquiry)next_clear,
    .tp_dealloc = (destructor)next_dealloc,
    .tp_as_async = &next_async,
    .tp_iter = PyObject_SelfIter,
    .tp_iternext = (iternextfunc)next_next,
    .tp_methods = next_methods,
};

static PyObject *
iterator_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"queue", "wait", NULL};
    PyObject *queue, *wait;
    MessageIterator *self;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!O", names, &UnreadQueue_Type, &queue, &wait)
        || (self = (MessageIterator *)type->tp_alloc(type, 0)) == NULL) {
        return NULL;
    }
    self->queue = (UnreadQueue *)Py_NewRef(queue);
    self->wait = Py_NewRef(wait);
    return (PyObject *)self;
}

static int
iterator_traverse(MessageIterator *self, visitproc visit, void *arg)
{
    Py_VISIT(self->queue);
    Py_VISIT(self->wait);
    return 0;
}

static void
iterator_dealloc(MessageIterator *self)
{
    PyObject_GC_UnTrack(self);
    Py_XDECREF(self->wait);
    Py_XDECREF(self->queue);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyObject *
iterator_anext(MessageIterator *self)
{
    Next *next;
    if (self->queue->closed_for || count(self->queue) == 0) {
        return PyObject_CallNoArgs(self->wait);
    }
    if ((next = spare) != NULL) {
        spare = NULL;
        PyObject_Init((PyObject *)next, &Next_Type);
    }
    else {
        next = PyObject_GC_New(Next, &Next_Type);
    }
    if (next != NULL) {
        next->messages = (MessageIterator *)Py_NewRef(self);
        next->waiting = NULL;
        PyObject_GC_Track(next);
    }
    return (PyObject *)next;
}

static PyAsyncMethods iterator_async = {
    .am_aiter = PyObject_SelfIter,
    .am_anext = (unaryfunc)iterator_anext,
};

PyTypeObject MessageIterator_Type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "wsstream.codec._speedups.MessageIterator",
    .tp_basicsize = sizeof(MessageIterator),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_doc = "see unread.py",
    .tp_new = iterator_new,
    .tp_traverse = (traverseproc)iterator_traverse, /* no tp_clear: like a tuple it never changes */
    .tp_dealloc = (destructor)iterator_dealloc,
    .tp_as_async = &iterator_async,
};
