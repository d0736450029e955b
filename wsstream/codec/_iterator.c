/* The compiled version of `MessageIterator` in `unread.py`, which says what it promises: `async for`. */

#include "_speedups.h"

typedef struct {
    PyObject_HEAD
    UnreadQueue *queue;
    ReadStep *step; /* or NULL: only `wait` waits */
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
    if (messages->step == NULL || !messages->step->open || !(messages->step->drained || messages->step->watched)
        || queue->closed_for || unread_count(queue) > 0) {
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
    if (at_once && PyContext_Enter(context) < 0) {
        PyErr_Clear(); /* it is entered already */
        at_once = 0;
    }
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
    else {
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
    UnreadQueue *queue;
    *result = NULL;
    if (self->messages == NULL) { /* garbage, which another object's destructor uses */
        PyErr_SetString(PyExc_RuntimeError, "anext() was already awaited");
        return PYGEN_ERROR;
    }
    queue = self->messages->queue;
    if (!self->used && !self->parked) {
        if ((*result = take_message_now(queue)) != NULL) {
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
        if (PyErr_Occurred() || (*result = take_message_now(queue)) != NULL || PyErr_Occurred()) {
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
    PyObject *queue, *wait, *step = Py_None, *park = Py_None, *loop = Py_None;
    MessageIterator *self;
    if (state == NULL
        || !PyArg_ParseTupleAndKeywords(args, kwargs, "O!O|OOO", names, state->types[UNREAD_QUEUE], &queue, &wait,
                                        &step, &park, &loop)
        || (step != Py_None && !PyObject_TypeCheck(step, state->types[READ_STEP])
            && PyErr_Format(PyExc_TypeError, "step must be a ReadStep, got %R", step) == NULL)
        || (self = (MessageIterator *)type->tp_alloc(type, 0)) == NULL) {
        return NULL;
    }
    self->queue = (UnreadQueue *)Py_NewRef(queue);
    self->step = step == Py_None ? NULL : (ReadStep *)Py_NewRef(step);
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
    if (self->queue->closed_for || (unread_count(self->queue) == 0 && (self->step == NULL || !self->step->open))) {
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
