/* The compiled version of `unread.py`, which says what each method promises. */

#include "_speedups.h"

#define UNLIMITED ((Py_ssize_t)1 << 62) /* as in unread.py */
#define COMPACT_FROM 1024 /* taken items; moving the rest forward for fewer costs more than their memory */

static Py_ssize_t
count(UnreadQueue *self)
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
    if (count(self) == 0 || (self->head >= COMPACT_FROM && self->head > count(self))) {
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
    PyObject *payload = NULL, *chunk = count(self) > 0 ? take_first(self) : NULL;
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
    PyObject *chunk = count(self) > 0 ? take_first(self) : Py_NewRef(Py_None);
    PyObject *result, *inflate = Py_NewRef(self->inflate); /* the call may replace it */
    self->cost -= total + PIECE_OVERHEAD;
    result = PyObject_CallFunction(inflate, "Nn", chunk, limit);
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
        if (size >= count(self)) {
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
    return take_first(self);
}

static PyObject *
pop_message(UnreadQueue *self)
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
    {Py_sq_length, count},
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

/* -- async for ------------------------------------------------------------------------------------------ */

typedef struct {
    PyObject_HEAD
    UnreadQueue *queue;
    ReadStep *step;
    PyObject *wait;
    PyObject *park;
    PyObject *loop; /* asyncio's, or None */
    struct Next *spare; /* memory for the next Next, or NULL; most live no longer than an `await` */
} MessageIterator;

/* What `__anext__` returns: a coroutine without a frame. It takes nothing before it is awaited, so one that
   never is, as in a task that is cancelled before it starts, loses no message.

   While it is `parked` it is also what its task waits for on asyncio: a future, as far as a task needs one. Unlike
   a future it can run the task at once, which spares a turn of the event loop. The message is taken when the task
   goes on, never before. */
typedef struct Next {
    PyObject_HEAD
    MessageIterator *messages;
    PyObject *waiting;  /* what `park` returned, or the coroutine of `wait`, once it was needed */
    PyObject *callback; /* of the task, while it waits for this object; or NULL */
    PyObject *context;
    PyObject *message; /* what `cancel` was told, or NULL: it was not cancelled */
    char parked;
    char woken;
    char blocking; /* the task has yet to take note that it waits for this object */
    char used; /* has returned a message, called `wait` or been closed */
} Next;

/* Begin to wait for a message to arrive, if there is nothing else to do; -1 with an exception. */
static int
next_park(Next *self)
{
    MessageIterator *messages = self->messages;
    UnreadQueue *queue = messages->queue;
    if (!messages->step->open || !messages->step->drained || queue->closed_for || count(queue) > 0) {
        return 0;
    }
    if (messages->loop == Py_None) {
        PyObject *awaitable = PyObject_CallNoArgs(messages->park);
        PyAsyncMethods *methods = awaitable == NULL ? NULL : Py_TYPE(awaitable)->tp_as_async;
        if (methods != NULL && methods->am_await != NULL) {
            self->waiting = methods->am_await(awaitable);
        }
        else if (awaitable != NULL) {
            PyErr_SetString(PyExc_TypeError, "park() must return an awaitable");
        }
        Py_XDECREF(awaitable);
        if (self->waiting == NULL) {
            return -1;
        }
    }
    else {
        queue->parked = self;
        self->woken = 0;
        self->blocking = 1;
    }
    self->parked = 1;
    queue->closed_for |= CLOSED_FOR_RECEIVER;
    return 0;
}

static void
next_unpark(Next *self)
{
    if (self->parked) {
        UnreadQueue *queue = self->messages->queue;
        self->parked = 0;
        queue->closed_for &= ~CLOSED_FOR_RECEIVER;
        if (queue->parked == self) {
            queue->parked = NULL;
        }
    }
}

/* -- Next as what a task of asyncio waits for ----------------------------------------------------------- */

/* Have the task go on: at once, or in the next turn of the event loop; -1 with an exception. */
static int
next_wake(Next *self, int at_once)
{
    PyObject *callback = self->callback, *context = self->context, *method, *result = NULL;
    if (self->woken) {
        return 0;
    }
    self->woken = 1;
    if (callback == NULL) {
        return 0; /* `add_done_callback` will see to it */
    }
    self->callback = self->context = NULL;
    Py_INCREF(self);
    if (!at_once) {
        if ((method = PyObject_GetAttrString(self->messages->loop, "call_soon")) != NULL) {
            PyObject *args[3] = {callback, (PyObject *)self, context}, *names = Py_BuildValue("(s)", "context");
            if (names != NULL) {
                result = PyObject_Vectorcall(method, args, 2, names);
                Py_DECREF(names);
            }
            Py_DECREF(method);
        }
    }
    else if (PyContext_Enter(context) == 0) {
        result = PyObject_CallOneArg(callback, (PyObject *)self);
        if (PyContext_Exit(context) < 0) {
            Py_CLEAR(result);
        }
    }
    Py_DECREF(callback);
    Py_DECREF(context);
    Py_DECREF(self);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

int
wake_parked(UnreadQueue *queue, int at_once)
{
    if (queue->parked == NULL) {
        return 0;
    }
    return next_wake(queue->parked, at_once) < 0 ? -1 : 1;
}

static PyObject *
next_get_loop(Next *self, PyObject *Py_UNUSED(ignored))
{
    return Py_NewRef(self->messages == NULL ? Py_None : self->messages->loop);
}

static PyObject *
next_add_done_callback(Next *self, PyObject *const *args, Py_ssize_t nargs, PyObject *names)
{
    if (nargs != 1 || names == NULL || PyTuple_GET_SIZE(names) != 1 || !PyContext_CheckExact(args[1])
        || self->messages == NULL) {
        PyErr_SetString(PyExc_TypeError, "add_done_callback() takes a callback and its context");
        return NULL;
    }
    Py_XSETREF(self->callback, Py_NewRef(args[0]));
    Py_XSETREF(self->context, Py_NewRef(args[1]));
    if (self->woken) {
        self->woken = 0;
        if (next_wake(self, 0) < 0) {
            return NULL;
        }
    }
    Py_RETURN_NONE;
}

static PyObject *
next_cancel(Next *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"msg", NULL};
    PyObject *message = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O", names, &message)) {
        return NULL;
    }
    if (!self->parked || self->woken) {
        Py_RETURN_FALSE;
    }
    Py_XSETREF(self->message, Py_NewRef(message));
    return next_wake(self, 0) < 0 ? NULL : Py_NewRef(Py_True);
}

static PyObject *
next_done(Next *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(!self->parked || self->woken);
}

static PyObject *
next_result(Next *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *asyncio, *error;
    if (self->message == NULL) {
        Py_RETURN_NONE;
    }
    if ((asyncio = PyImport_ImportModule("asyncio")) != NULL) {
        if ((error = PyObject_GetAttrString(asyncio, "CancelledError")) != NULL) {
            PyErr_SetObject(error, self->message == Py_None ? NULL : self->message);
            Py_DECREF(error);
        }
        Py_DECREF(asyncio);
    }
    return NULL;
}

/* None, unless it is parked: asyncio would take it for a future in place of a coroutine. */
static PyObject *
next_get_blocking(Next *self, void *Py_UNUSED(closure))
{
    return self->parked && self->waiting == NULL ? PyBool_FromLong(self->blocking) : Py_NewRef(Py_None);
}

static int
next_set_blocking(Next *self, PyObject *value, void *Py_UNUSED(closure))
{
    int blocking = value == NULL ? 0 : PyObject_IsTrue(value);
    self->blocking = blocking > 0;
    return blocking < 0 ? -1 : 0;
}

/* -- Next as a coroutine -------------------------------------------------------------------------------- */

static int
next_wait(Next *self)
{
    if (self->waiting != NULL) {
        return 0;
    }
    if (self->used) {
        PyErr_SetString(PyExc_RuntimeError, "anext() was already awaited");
        return -1;
    }
    self->used = 1;
    self->waiting = PyObject_CallNoArgs(self->messages->wait);
    return self->waiting != NULL ? 0 : -1;
}

static PySendResult
next_resume(Next *self, PyObject *sent, PyObject **result)
{
    UnreadQueue *queue = self->messages->queue;
    *result = NULL;
    if (!self->used && !self->parked) {
        if ((*result = pop_message(queue)) != NULL) {
            self->used = 1;
            return PYGEN_RETURN;
        }
        if (PyErr_Occurred() || next_park(self) < 0) {
            return PYGEN_ERROR;
        }
        if (self->parked && self->waiting == NULL) {
            *result = Py_NewRef(self);
            return PYGEN_NEXT;
        }
    }
    if (self->parked) {
        if (self->waiting != NULL) {
            PySendResult parked = PyIter_Send(self->waiting, sent, result);
            if (parked == PYGEN_NEXT) {
                return parked;
            }
            Py_CLEAR(self->waiting);
            Py_CLEAR(*result);
        }
        next_unpark(self);
        if (PyErr_Occurred() || (*result = pop_message(queue)) != NULL || PyErr_Occurred()) {
            self->used = 1;
            return *result != NULL ? PYGEN_RETURN : PYGEN_ERROR;
        }
        sent = Py_None;
    }
    if (next_wait(self) < 0) {
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

/* Raise the exception that `throw` was given. */
static PyObject *
raise(PyObject *args)
{
    PyObject *type, *value = NULL, *traceback = NULL;
    if (!PyArg_ParseTuple(args, "O|OO", &type, &value, &traceback)) {
        return NULL;
    }
    if (PyExceptionInstance_Check(type)) {
        value = type;
        type = (PyObject *)Py_TYPE(type);
    }
    PyErr_Restore(Py_NewRef(type), Py_XNewRef(value), Py_XNewRef(traceback == Py_None ? NULL : traceback));
    return NULL;
}

static PyObject *
next_throw(Next *self, PyObject *args)
{
    PyObject *method, *result = NULL;
    if (self->parked) {
        self->used = 1;
        next_unpark(self);
        if (self->waiting == NULL) {
            return raise(args);
        }
    }
    if (next_wait(self) == 0 && (method = PyObject_GetAttrString(self->waiting, "throw")) != NULL) {
        result = PyObject_CallObject(method, args);
        Py_DECREF(method);
    }
    return result;
}

static PyObject *
next_close(Next *self, PyObject *Py_UNUSED(ignored))
{
    self->used = 1;
    next_unpark(self);
    return self->waiting != NULL ? PyObject_CallMethod(self->waiting, "close", NULL) : Py_NewRef(Py_None);
}

static int
next_traverse(Next *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->messages);
    Py_VISIT(self->waiting);
    Py_VISIT(self->callback);
    Py_VISIT(self->context);
    Py_VISIT(self->message);
    return 0;
}

/* All but that to the iterator. */
static void
drop_references(Next *self)
{
    if (self->messages != NULL) {
        next_unpark(self);
    }
    Py_CLEAR(self->waiting);
    Py_CLEAR(self->callback);
    Py_CLEAR(self->context);
    Py_CLEAR(self->message);
}

static int
next_clear(Next *self)
{
    self->used = 1;
    drop_references(self);
    Py_CLEAR(self->messages);
    return 0;
}

static void
free_next(Next *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

/* A spare keeps its reference to its type, which is needed to free it, and no other. */
static void
next_dealloc(Next *self)
{
    MessageIterator *messages = self->messages;
    PyObject_GC_UnTrack(self);
    drop_references(self);
    if (messages != NULL && messages->spare == NULL) {
        messages->spare = self;
    }
    else {
        free_next(self);
    }
    Py_XDECREF(messages);
}

static PyMethodDef next_methods[] = {
    {"send", (PyCFunction)next_send, METH_O, NULL},
    {"throw", (PyCFunction)next_throw, METH_VARARGS, NULL},
    {"close", (PyCFunction)next_close, METH_NOARGS, NULL},
    {"get_loop", (PyCFunction)next_get_loop, METH_NOARGS, NULL},
    {"add_done_callback", (PyCFunction)(void (*)(void))next_add_done_callback, METH_FASTCALL | METH_KEYWORDS, NULL},
    {"cancel", (PyCFunction)(void (*)(void))next_cancel, METH_VARARGS | METH_KEYWORDS, NULL},
    {"done", (PyCFunction)next_done, METH_NOARGS, NULL},
    {"result", (PyCFunction)next_result, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef next_properties[] = {
    {"_asyncio_future_blocking", (getter)next_get_blocking, (setter)next_set_blocking, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot next_slots[] = {
    {Py_tp_traverse, next_traverse},
    {Py_tp_clear, next_clear},
    {Py_tp_dealloc, next_dealloc},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, next_next},
    {Py_tp_methods, next_methods},
    {Py_tp_getset, next_properties},
    {Py_am_await, PyObject_SelfIter},
    {Py_am_send, next_resume},
    {0, NULL},
};

PyType_Spec next_spec = {
    .name = "wsstream.codec._speedups.Next",
    .basicsize = sizeof(Next),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = next_slots,
};

static PyObject *
iterator_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"queue", "wait", "step", "park", "loop", NULL};
    ModuleState *state = PyType_GetModuleState(type);
    PyObject *queue, *wait, *step, *park, *loop = Py_None;
    MessageIterator *self;
    if (state == NULL
        || !PyArg_ParseTupleAndKeywords(args, kwargs, "O!OO!O|O", names, state->types[UNREAD_QUEUE], &queue, &wait,
                                        state->types[READ_STEP], &step, &park, &loop)
        || (self = (MessageIterator *)type->tp_alloc(type, 0)) == NULL) {
        return NULL;
    }
    self->queue = (UnreadQueue *)Py_NewRef(queue);
    self->step = (ReadStep *)Py_NewRef(step);
    self->wait = Py_NewRef(wait);
    self->park = Py_NewRef(park);
    self->loop = Py_NewRef(loop);
    return (PyObject *)self;
}

static int
iterator_traverse(MessageIterator *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->queue);
    Py_VISIT(self->wait);
    Py_VISIT(self->step);
    Py_VISIT(self->park);
    Py_VISIT(self->loop);
    if (self->spare != NULL) {
        Py_VISIT(Py_TYPE(self->spare));
    }
    return 0;
}

static void
iterator_dealloc(MessageIterator *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Py_XDECREF(self->wait);
    Py_XDECREF(self->step);
    Py_XDECREF(self->park);
    Py_XDECREF(self->loop);
    Py_XDECREF(self->queue);
    if (self->spare != NULL) {
        free_next(self->spare);
    }
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

/* A Next to fill in; NULL with an exception. */
static Next *
new_next(MessageIterator *self)
{
    Next *next = self->spare;
    if (next == NULL) {
        ModuleState *state = PyType_GetModuleState(Py_TYPE(self));
        return state == NULL ? NULL : PyObject_GC_New(Next, state->types[NEXT]);
    }
    self->spare = NULL;
    PyObject_Init((PyObject *)next, Py_TYPE(next));
    Py_DECREF(Py_TYPE(next)); /* the spare's reference */
    return next;
}

static PyObject *
iterator_anext(MessageIterator *self)
{
    Next *next;
    if (self->queue->closed_for || (count(self->queue) == 0 && !self->step->open)) {
        return PyObject_CallNoArgs(self->wait);
    }
    if ((next = new_next(self)) != NULL) {
        next->messages = (MessageIterator *)Py_NewRef(self);
        next->waiting = next->callback = next->context = next->message = NULL;
        next->parked = next->woken = next->blocking = next->used = 0;
        PyObject_GC_Track(next);
    }
    return (PyObject *)next;
}

static PyType_Slot iterator_slots[] = {
    {Py_tp_doc, "see unread.py"},
    {Py_tp_new, iterator_new},
    {Py_tp_traverse, iterator_traverse}, /* no Py_tp_clear: like a tuple's, its references never change */
    {Py_tp_dealloc, iterator_dealloc},
    {Py_am_aiter, PyObject_SelfIter},
    {Py_am_anext, iterator_anext},
    {0, NULL},
};

PyType_Spec message_iterator_spec = {
    .name = "wsstream.codec._speedups.MessageIterator",
    .basicsize = sizeof(MessageIterator),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = iterator_slots,
};
