/* The compiled version of `read_step.py`, which says what each method promises. */

#include "_speedups.h"

#define MAX_EVENTS 1024 /* as in read_step.py */
#define LEAST_READ 1024
#define FIRST_DENSITY 0.25
#define SAFETY 0.98
#define BINARY_FRAME 0x82 /* FIN and the opcode */

static PyObject *
step_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"queue", "batch", "masked", "rsv1", "receive", "buffer", NULL};
    ModuleState *state = PyType_GetModuleState(type);
    PyObject *queue, *batch, *receive, *buffer;
    int masked, rsv1;
    ReadStep *self;
    if (state == NULL
        || !PyArg_ParseTupleAndKeywords(args, kwargs, "O!O!ppOO!", names, state->types[UNREAD_QUEUE], &queue,
                                        state->types[FRAME_BATCH], &batch, &masked, &rsv1, &receive, &PyMemoryView_Type,
                                        &buffer)
        || (self = (ReadStep *)type->tp_alloc(type, 0)) == NULL) {
        return NULL;
    }
    self->queue = (UnreadQueue *)Py_NewRef(queue);
    self->batch = (FrameBatch *)Py_NewRef(batch);
    self->receive = Py_NewRef(receive);
    self->buffer = Py_NewRef(buffer);
    self->masked = (char)masked;
    self->rsv1 = (char)rsv1;
    self->density = FIRST_DENSITY;
    self->received_at = -Py_HUGE_VAL;
    if (PyObject_GetBuffer(buffer, &self->view, PyBUF_WRITABLE) < 0) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

/* Call a method of the owner, with an argument unless it is NULL; -1 with an exception. */
static int
tell(ReadStep *self, int name, PyObject *argument)
{
    ModuleState *state = PyType_GetModuleState(Py_TYPE(self));
    PyObject *result = NULL, *owner = Py_XNewRef(self->owner);
    if (owner == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "a ReadStep needs an owner before its first step");
    }
    else if (state != NULL) {
        result = argument == NULL ? PyObject_CallMethodNoArgs(owner, state->names[name])
                                  : PyObject_CallMethodOneArg(owner, state->names[name], argument);
    }
    Py_XDECREF(owner);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* Receive at most `wanted` bytes by the function `receive`, to be put at `at` in the buffer; -1: none has arrived;
   -2 with an exception. */
static Py_ssize_t
receive_by_call(ReadStep *self, Py_ssize_t at, Py_ssize_t wanted)
{
    PyObject *args[2] = {PySequence_GetSlice(self->buffer, at, self->view.len), PyLong_FromSsize_t(wanted)};
    PyObject *result = NULL;
    Py_ssize_t size = -1;
    if (args[0] != NULL && args[1] != NULL) {
        result = PyObject_Vectorcall(self->receive, args, 2, NULL);
    }
    Py_XDECREF(args[0]);
    Py_XDECREF(args[1]);
    if (result == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_BlockingIOError)) {
            return -2;
        }
        PyErr_Clear();
        return -1;
    }
    if (result != Py_None && ((size = PyLong_AsSsize_t(result)) < 0 || size > wanted)) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_ValueError, "more bytes were received than there was room for");
        }
        size = -2;
    }
    Py_DECREF(result);
    return size;
}

/* As `receive_by_call`, from the socket itself if that may be. */
static Py_ssize_t
receive(ReadStep *self, Py_ssize_t at, Py_ssize_t wanted)
{
    Py_ssize_t size = receive_directly(self->batch, (char *)self->view.buf + at, wanted);
    return size == -3 ? receive_by_call(self, at, wanted) : size;
}

/* Put the plain messages among the `size` bytes that came into the queue; return the position after them, or -1
   with an exception. */
static Py_ssize_t
put_messages(ReadStep *self, Py_ssize_t size, Py_ssize_t room)
{
    ModuleState *state = PyType_GetModuleState(Py_TYPE(self));
    UnreadQueue *queue = self->queue;
    Py_ssize_t pos, cost, count = PyList_GET_SIZE(queue->items);
    if (state == NULL) {
        return -1;
    }
    pos = scan_messages(state, self->view.buf, 0, size, self->masked, self->rsv1, room, MAX_EVENTS,
                        queue->items, &cost);
    queue->cost += cost;
    if (pos > 0) {
        self->density = cost > pos ? (double)pos / (double)cost * SAFETY : 1.0;
        self->alike = pos / (PyList_GET_SIZE(queue->items) - count);
    }
    return pos;
}

/* Leave the bytes from `pos` to `size` to the owner; -1 with an exception. */
static int
leave(ReadStep *self, Py_ssize_t pos, Py_ssize_t size)
{
    PyObject *rest = PySequence_GetSlice(self->buffer, pos, size);
    int failed = rest == NULL || tell(self, TAKE_REST, rest) < 0;
    Py_XDECREF(rest);
    return failed ? -1 : 0;
}

/* How many bytes to read, behind the `before` that were kept. */
static Py_ssize_t
size_of_read(ReadStep *self, Py_ssize_t room, Py_ssize_t before)
{
    Py_ssize_t size, extra;
    size = Py_MAX((Py_ssize_t)((double)room * self->density) - before, LEAST_READ);
    size = Py_MIN(size, self->view.len - before);
    if (self->due > 0) {
        return Py_MIN(size, self->due);
    }
    extra = self->alike > 0 ? (before + size) % self->alike : 0;
    return size - extra < LEAST_READ ? size : size - extra;
}

/* Keep what came from `pos` to `size` for the next read, if it is the beginning of a message; 1: kept, 0: not,
   -1 with an exception. `before`: the bytes of it that were kept already. */
static int
keep(ReadStep *self, Py_ssize_t pos, Py_ssize_t size, Py_ssize_t before)
{
    const uint8_t *frame = (const uint8_t *)self->view.buf + pos;
    Py_ssize_t most = Py_MIN(Py_MIN(self->high_water, self->queue->limit), self->view.len - MAX_HEADER);
    uint64_t length;
    size_t arrived = (size_t)(size - pos), header;
    if (!self->keeps || most < 0 || (pos == 0 && size - before < before / 2) || *frame != BINARY_FRAME
        || (header = message_header(frame, arrived, self->masked, 0, &length)) == 0 || length > (uint64_t)most
        || length <= arrived - header) {
        return 0;
    }
    Py_XSETREF(self->beginning, PyBytes_FromStringAndSize((const char *)frame, (Py_ssize_t)arrived));
    return self->beginning == NULL ? -1 : 1;
}

/* Receive behind the beginning that was kept, of `before` bytes: as `receive`, but what was kept counts, too. */
static Py_ssize_t
receive_more(ReadStep *self, Py_ssize_t before, Py_ssize_t wanted)
{
    PyObject *beginning = self->beginning;
    Py_ssize_t size;
    self->beginning = NULL;
    size = receive(self, before, wanted);
    self->drained = size != -2 && size < wanted;
    if (beginning != NULL && size <= 0) {
        Py_XSETREF(self->beginning, beginning);
    }
    else if (beginning != NULL) {
        memcpy(self->view.buf, PyBytes_AS_STRING(beginning), (size_t)before);
        Py_DECREF(beginning);
    }
    return size;
}

/* Return whether anything arrived; -1 with an exception. */
static int
take(ReadStep *self, int at_once)
{
    UnreadQueue *queue = self->queue;
    Py_ssize_t before = self->beginning == NULL ? 0 : PyBytes_GET_SIZE(self->beginning);
    Py_ssize_t room = self->high_water - queue->cost, wanted, size, pos = 0;
    int woken, kept = 0;
    wanted = size_of_read(self, room, before);
    if ((size = receive_more(self, before, wanted)) == -2) {
        return -1;
    }
    if (size < 0) {
        return 0;
    }
    if (size == 0) {
        return tell(self, END_OF_STREAM, NULL) < 0 ? -1 : 1;
    }
    self->bytes_received += size;
    self->received_at = clock_time(self->batch->loop_clock);
    self->batch->answers = 1;
    size += before;
    if (PyErr_Occurred() || (self->open && room > 0 && (pos = put_messages(self, size, room)) < 0)) {
        return -1;
    }
    if (queue->cost >= self->high_water
        || (pos < size && (!self->open || (kept = keep(self, pos, size, before)) == 0))) {
        return leave(self, pos, size) < 0 ? -1 : 1;
    }
    if (kept < 0) {
        return -1;
    }
    if (pos > 0 && queue->closed_for & CLOSED_FOR_RECEIVER
        && ((woken = wake_parked(queue, at_once)) < 0 || (woken == 0 && tell(self, WAKE_RECEIVER, NULL) < 0))) {
        return -1;
    }
    return 1;
}

static PyObject *
step_take(ReadStep *self, PyObject *Py_UNUSED(ignored))
{
    int any = take(self, 0);
    return any < 0 ? NULL : PyBool_FromLong(any);
}

static PyObject *
step_release(ReadStep *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *beginning = self->beginning;
    self->beginning = NULL;
    return beginning != NULL ? beginning : PyBytes_FromStringAndSize(NULL, 0);
}

static PyObject *
step_on_readable(ReadStep *self, PyObject *Py_UNUSED(ignored))
{
    if (self->skip || !self->open) {
        return self->otherwise == NULL ? Py_NewRef(Py_None) : PyObject_CallNoArgs(self->otherwise);
    }
    if (take(self, 1) < 0) {
        PyObject *type, *error, *traceback;
        int failed;
        if (!PyErr_ExceptionMatches(PyExc_Exception)) {
            return NULL;
        }
        PyErr_Fetch(&type, &error, &traceback);
        PyErr_NormalizeException(&type, &error, &traceback);
        if (traceback != NULL) {
            PyException_SetTraceback(error, traceback);
        }
        failed = tell(self, STEP_FAILED, error);
        Py_XDECREF(type);
        Py_XDECREF(error);
        Py_XDECREF(traceback);
        if (failed) {
            return NULL;
        }
    }
    Py_RETURN_NONE;
}

static int
step_traverse(ReadStep *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->queue);
    Py_VISIT(self->batch);
    Py_VISIT(self->receive);
    Py_VISIT(self->buffer);
    Py_VISIT(self->owner);
    Py_VISIT(self->otherwise);
    return 0;
}

static int
step_clear(ReadStep *self) /* not what every step needs */
{
    Py_CLEAR(self->owner);
    Py_CLEAR(self->otherwise);
    return 0;
}

static void
step_dealloc(ReadStep *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    step_clear(self);
    Py_XDECREF(self->queue);
    Py_XDECREF(self->batch);
    Py_XDECREF(self->receive);
    Py_XDECREF(self->beginning);
    PyBuffer_Release(&self->view);
    Py_XDECREF(self->buffer);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyMethodDef step_methods[] = {
    {"on_readable", (PyCFunction)step_on_readable, METH_NOARGS, NULL},
    {"release", (PyCFunction)step_release, METH_NOARGS, NULL},
    {"take", (PyCFunction)step_take, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef step_members[] = {
    {"owner", T_OBJECT, offsetof(ReadStep, owner), 0, NULL},
    {"otherwise", T_OBJECT, offsetof(ReadStep, otherwise), 0, NULL},
    {"high_water", T_PYSSIZET, offsetof(ReadStep, high_water), 0, NULL},
    {"due", T_PYSSIZET, offsetof(ReadStep, due), 0, NULL},
    {"bytes_received", T_PYSSIZET, offsetof(ReadStep, bytes_received), 0, NULL},
    {"received_at", T_DOUBLE, offsetof(ReadStep, received_at), 0, NULL},
    {"density", T_DOUBLE, offsetof(ReadStep, density), 0, NULL},
    {"open", T_BOOL, offsetof(ReadStep, open), 0, NULL},
    {"skip", T_BOOL, offsetof(ReadStep, skip), 0, NULL},
    {"drained", T_BOOL, offsetof(ReadStep, drained), 0, NULL},
    {"watched", T_BOOL, offsetof(ReadStep, watched), 0, NULL},
    {"keeps", T_BOOL, offsetof(ReadStep, keeps), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot step_slots[] = {
    {Py_tp_doc, "see read_step.py"},
    {Py_tp_new, step_new},
    {Py_tp_traverse, step_traverse},
    {Py_tp_clear, step_clear},
    {Py_tp_dealloc, step_dealloc},
    {Py_tp_methods, step_methods},
    {Py_tp_members, step_members},
    {0, NULL},
};

PyType_Spec read_step_spec = {
    .name = "wsstream.codec._speedups.ReadStep",
    .basicsize = sizeof(ReadStep),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = step_slots,
};
