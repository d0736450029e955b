/* The compiled twin of `pieces.py`, which says what everything here promises. */

#include "_speedups.h"
#include <structmember.h>

#define UNLIMITED ((Py_ssize_t)1 << 62)

typedef struct {
    PyObject_HEAD
    PyObject *items; /* a list; what was before `head` has been taken, None is in its place */
    Py_ssize_t head;
    Py_ssize_t held;
    Py_ssize_t limit;
    Py_ssize_t floor;
    Py_ssize_t shut;
} Pieces;

static Py_ssize_t
count(Pieces *self)
{
    return PyList_GET_SIZE(self->items) - self->head;
}

/* A new reference to what was in front; there is something. */
static PyObject *
take_front(Pieces *self)
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

/* A new reference; NULL without an exception: nothing can be popped. */
static PyObject *
pop_message(Pieces *self)
{
    Py_ssize_t size, left;
    if (self->shut || count(self) == 0) {
        return NULL;
    }
    size = size_of(PyList_GET_ITEM(self->items, self->head));
    left = self->held - size - PIECE_OVERHEAD;
    if (size < 0 || size > self->limit || left <= self->floor) {
        return NULL;
    }
    self->held = left;
    return take_front(self);
}

static int
pieces_init(Pieces *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"limit", NULL};
    Py_ssize_t limit = UNLIMITED;
    PyObject *items;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|n", names, &limit) || (items = PyList_New(0)) == NULL) {
        return -1;
    }
    self->head = self->held = self->shut = 0;
    self->limit = limit;
    self->floor = -1;
    Py_SETREF(self->items, items); /* last: what is dropped may call us */
    return 0;
}

static PyObject *
pieces_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    Pieces *self = (Pieces *)type->tp_alloc(type, 0);
    if (self != NULL && (self->items = PyList_New(0)) == NULL) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static void
pieces_dealloc(Pieces *self)
{
    Py_XDECREF(self->items);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static Py_ssize_t
pieces_length(Pieces *self)
{
    return count(self);
}

static PyObject *
pieces_iter(Pieces *self)
{
    PyObject *result = NULL, *now = PyList_GetSlice(self->items, self->head, PyList_GET_SIZE(self->items));
    if (now != NULL) {
        result = PyObject_GetIter(now);
        Py_DECREF(now);
    }
    return result;
}

static PyObject *
pieces_extend(Pieces *self, PyObject *args)
{
    PyObject *items;
    Py_ssize_t cost;
    if (!PyArg_ParseTuple(args, "O!n", &PyList_Type, &items, &cost)
        || PyList_SetSlice(self->items, PY_SSIZE_T_MAX, PY_SSIZE_T_MAX, items) < 0) {
        return NULL;
    }
    self->held += cost;
    Py_RETURN_NONE;
}

static PyObject *
pieces_pop(Pieces *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *message = pop_message(self);
    return message != NULL ? message : Py_NewRef(Py_None);
}

static PyObject *
pieces_front(Pieces *self, PyObject *Py_UNUSED(ignored))
{
    return Py_NewRef(count(self) == 0 ? Py_None : PyList_GET_ITEM(self->items, self->head));
}

static PyObject *
pieces_take(Pieces *self, PyObject *Py_UNUSED(ignored))
{
    if (count(self) == 0) {
        PyErr_SetString(PyExc_IndexError, "nothing is here");
        return NULL;
    }
    return take_front(self);
}

static PyObject *
pieces_clear(Pieces *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *items = PyList_New(0);
    if (items == NULL) {
        return NULL;
    }
    self->head = self->held = 0;
    Py_SETREF(self->items, items); /* last, as above */
    Py_RETURN_NONE;
}

static PyMethodDef pieces_methods[] = {
    {"extend", (PyCFunction)pieces_extend, METH_VARARGS, NULL},
    {"pop", (PyCFunction)pieces_pop, METH_NOARGS, NULL},
    {"front", (PyCFunction)pieces_front, METH_NOARGS, NULL},
    {"take", (PyCFunction)pieces_take, METH_NOARGS, NULL},
    {"clear", (PyCFunction)pieces_clear, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef pieces_members[] = {
    {"held", T_PYSSIZET, offsetof(Pieces, held), 0, NULL},
    {"limit", T_PYSSIZET, offsetof(Pieces, limit), 0, NULL},
    {"floor", T_PYSSIZET, offsetof(Pieces, floor), 0, NULL},
    {"shut", T_PYSSIZET, offsetof(Pieces, shut), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PySequenceMethods pieces_sequence = {.sq_length = (lenfunc)pieces_length};

PyTypeObject Pieces_Type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "wsstream.codec._speedups.Pieces",
    .tp_basicsize = sizeof(Pieces),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "see pieces.py",
    .tp_new = pieces_new,
    .tp_init = (initproc)pieces_init,
    .tp_dealloc = (destructor)pieces_dealloc,
    .tp_as_sequence = &pieces_sequence,
    .tp_iter = (getiterfunc)pieces_iter,
    .tp_methods = pieces_methods,
    .tp_members = pieces_members,
};

/* -- async for ---------------------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    Pieces *pieces;
    PyObject *wait;
} Messages;

/* What `__anext__` gives: a coroutine without a frame. Nothing is taken before it is awaited, so that one
   which never is, as in a task that is cancelled before it starts, loses nothing. */
typedef struct {
    PyObject_HEAD
    Messages *messages; /* NULL: it has been awaited */
    PyObject *waiting; /* the coroutine of `wait`, once it was needed */
} Next;

static Next *spare; /* the memory of one; most live no longer than an `await` */

static int
next_wait(Next *self)
{
    Messages *messages = self->messages;
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
    if (self->messages != NULL && (*result = pop_message(self->messages->pieces)) != NULL) {
        Py_CLEAR(self->messages);
        return PYGEN_RETURN;
    }
    if (next_wait(self) < 0) {
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
messages_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"pieces", "wait", NULL};
    PyObject *pieces, *wait;
    Messages *self;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!O", names, &Pieces_Type, &pieces, &wait)
        || (self = (Messages *)type->tp_alloc(type, 0)) == NULL) {
        return NULL;
    }
    self->pieces = (Pieces *)Py_NewRef(pieces);
    self->wait = Py_NewRef(wait);
    return (PyObject *)self;
}

static int
messages_traverse(Messages *self, visitproc visit, void *arg)
{
    Py_VISIT(self->pieces);
    Py_VISIT(self->wait);
    return 0;
}

static void
messages_dealloc(Messages *self)
{
    PyObject_GC_UnTrack(self);
    Py_XDECREF(self->wait);
    Py_XDECREF(self->pieces);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyObject *
messages_anext(Messages *self)
{
    Next *next;
    if (self->pieces->shut || count(self->pieces) == 0) {
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
        next->messages = (Messages *)Py_NewRef(self);
        next->waiting = NULL;
        PyObject_GC_Track(next);
    }
    return (PyObject *)next;
}

static PyAsyncMethods messages_async = {
    .am_aiter = PyObject_SelfIter,
    .am_anext = (unaryfunc)messages_anext,
};

PyTypeObject Messages_Type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "wsstream.codec._speedups.Messages",
    .tp_basicsize = sizeof(Messages),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_doc = "see pieces.py",
    .tp_new = messages_new,
    .tp_traverse = (traverseproc)messages_traverse, /* no tp_clear: like a tuple it never changes */
    .tp_dealloc = (destructor)messages_dealloc,
    .tp_as_async = &messages_async,
};
