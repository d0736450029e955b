/* The compiled version of `batch.py`, which says what each method promises. */

#include "_speedups.h"

#ifndef MS_WINDOWS
#include <errno.h>
#include <sys/socket.h>
#endif

#define FULL (64 * 1024)    /* as in batch.py */
#define LARGEST (16 * 1024) /* as in batch.py */
#define GAP 10e-6           /* as in batch.py */
#define LEAST_CAPACITY 4096
#define CLOSED_FOR_COMPRESSION 2 /* as in batch.py */

/* Bytes: twice this, with a header, is still a Py_ssize_t. */
#define MOST_WAITING (PY_SSIZE_T_MAX / 2 - MAX_HEADER)

double
clock_time(PyObject *clock)
{
    PyObject *now;
    double seconds;
    if (clock == NULL || clock == Py_None) {
        return 0.0;
    }
    if ((now = PyObject_CallNoArgs(clock)) == NULL) {
        return -1.0;
    }
    seconds = PyFloat_AsDouble(now);
    Py_DECREF(now);
    return seconds;
}

/* -- system calls: the GIL is kept, as they do not wait -------------------------------------------------- */

#if defined(MS_WINDOWS) || !defined(MSG_DONTWAIT)

Py_ssize_t
receive_directly(FrameBatch *Py_UNUSED(self), void *Py_UNUSED(data), Py_ssize_t Py_UNUSED(size))
{
    return -3;
}

Py_ssize_t
send_directly(FrameBatch *Py_UNUSED(self), const void *Py_UNUSED(data), Py_ssize_t Py_UNUSED(size))
{
    return -3;
}

#else

/* The descriptor of the socket now; -1: it has none, as it is closed. */
static int
descriptor(FrameBatch *self)
{
    PyObject *result;
    long number = -1;
    if (self->fileno != NULL && self->fileno != Py_None && (result = PyObject_CallNoArgs(self->fileno)) != NULL) {
        number = PyLong_AsLong(result);
        Py_DECREF(result);
    }
    if (number < 0 || number > INT_MAX) {
        PyErr_Clear();
        return -1;
    }
    return (int)number;
}

static Py_ssize_t
failure(void)
{
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) {
        return -1;
    }
    PyErr_SetFromErrno(PyExc_OSError);
    return -2;
}

Py_ssize_t
receive_directly(FrameBatch *self, void *data, Py_ssize_t size)
{
    int number = descriptor(self);
    ssize_t received;
    if (number < 0) {
        return -3;
    }
    received = recv(number, data, (size_t)size, MSG_DONTWAIT);
    return received < 0 ? failure() : received;
}

Py_ssize_t
send_directly(FrameBatch *self, const void *data, Py_ssize_t size)
{
    int number = descriptor(self);
    ssize_t sent;
    if (number < 0) {
        return -3;
    }
#ifdef MSG_NOSIGNAL
    sent = send(number, data, (size_t)size, MSG_DONTWAIT | MSG_NOSIGNAL);
#else
    sent = send(number, data, (size_t)size, MSG_DONTWAIT);
#endif
    return sent < 0 ? failure() : sent;
}

#endif

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

/* Whether a message that is sent now should leave alone: 1, 0, or -1 with an exception. */
static int
comes_alone(FrameBatch *self)
{
    double now;
    if (self->answers) {
        return 1;
    }
    now = clock_time(self->clock);
    return PyErr_Occurred() ? -1 : now - self->last_send > GAP;
}

/* A new frame; NULL with an exception. */
static PyObject *
new_frame(FrameBatch *self, int first, const uint8_t *payload, Py_ssize_t length)
{
    PyObject *frame = NULL, *key = NULL;
    const uint8_t *mask = NULL;
    if (self->next_key == NULL
        || ((key = PyObject_CallNoArgs(self->next_key)) != NULL && (mask = key_bytes(key)) != NULL)) {
        frame = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)header_size(length, mask != NULL) + length);
        if (frame != NULL) {
            write_frame((uint8_t *)PyBytes_AS_STRING(frame), first, payload, length, mask);
        }
    }
    Py_XDECREF(key);
    return frame;
}

/* Fetch the exception that was raised; NULL if it is BlockingIOError. */
static PyObject *
fetch_error(void)
{
    PyObject *type, *error, *traceback;
    int blocking = PyErr_ExceptionMatches(PyExc_BlockingIOError);
    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    if (blocking) {
        Py_CLEAR(error);
    }
    return error;
}

/* Send a frame by itself; -1 with an exception. */
static int
send_alone(FrameBatch *self, PyObject *frame)
{
    PyObject *send, *error = NULL, *result;
    Py_ssize_t sent = send_directly(self, PyBytes_AS_STRING(frame), PyBytes_GET_SIZE(frame));
    self->answers = 0;
    if (sent == -3) {
        send = Py_NewRef(self->send);
        result = PyObject_CallOneArg(send, frame);
        Py_DECREF(send);
        if (result != NULL) {
            sent = PyLong_AsSsize_t(result);
            Py_DECREF(result);
        }
    }
    if (sent == -1 && !PyErr_Occurred()) {
        sent = 0;
    }
    if (PyErr_Occurred()) {
        if (!PyErr_ExceptionMatches(PyExc_Exception)) {
            return -1;
        }
        sent = 0;
        error = fetch_error();
    }
    self->last_send = self->left_at = clock_time(self->clock);
    if (self->loop_clock != self->clock && !PyErr_Occurred()) {
        self->left_at = clock_time(self->loop_clock);
    }
    if (sent == PyBytes_GET_SIZE(frame) && error == NULL) {
        self->sent += sent;
        return PyErr_Occurred() ? -1 : 0;
    }
    result = PyErr_Occurred() || self->send_rest == NULL
                 ? NULL : PyObject_CallFunction(self->send_rest, "OnO", frame, sent, error == NULL ? Py_None : error);
    Py_XDECREF(error);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static PyObject *
batch_put(FrameBatch *self, PyObject *item)
{
    const char *payload;
    Py_ssize_t length;
    PyObject *encoded = NULL, *frame;
    int first = 0x82, alone = 0, failed;

    if (self->closed_for || self->used >= self->capacity) {
        Py_RETURN_NONE;
    }
    if (self->used == 0) {
        if (self->send == NULL || self->send == Py_None || self->others != 0 || (alone = comes_alone(self)) == 0) {
            Py_RETURN_NONE;
        }
        if (alone < 0) {
            return NULL;
        }
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
    if (length > self->largest) {
        Py_XDECREF(encoded);
        Py_RETURN_NONE;
    }
    if (!alone) {
        failed = append(self, first, (const uint8_t *)payload, length);
    }
    else if (!(failed = (frame = new_frame(self, first, (const uint8_t *)payload, length)) == NULL)) {
        failed = send_alone(self, frame);
        Py_DECREF(frame);
    }
    Py_XDECREF(encoded);
    if (failed) {
        return NULL;
    }
    self->sends_until_yield--;
    return PyBool_FromLong(self->sends_until_yield <= 0 || self->used >= Py_MIN(self->capacity, FULL));
}

static PyObject *
batch_send_frames(FrameBatch *self, PyObject *frames)
{
    if (!PyBytes_CheckExact(frames)) {
        PyErr_SetString(PyExc_TypeError, "frames must be bytes");
        return NULL;
    }
    if ((self->closed_for & ~CLOSED_FOR_COMPRESSION) || self->used != 0 || self->others != 0 || self->send == NULL
        || self->send == Py_None) {
        Py_RETURN_NONE;
    }
    return send_alone(self, frames) < 0 ? NULL : PyBool_FromLong(self->others == 0);
}

static PyObject *
batch_take_alone(FrameBatch *self, PyObject *now)
{
    double seconds = PyFloat_AsDouble(now);
    int alone = self->answers || seconds - self->last_send > GAP;
    if (PyErr_Occurred()) {
        return NULL;
    }
    self->answers = 0;
    self->last_send = seconds;
    return PyBool_FromLong(alone);
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
    self->largest = LARGEST;
    self->last_send = self->left_at = -Py_HUGE_VAL;
    return (PyObject *)self;
}

static int
batch_traverse(FrameBatch *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->next_key);
    Py_VISIT(self->clock);
    Py_VISIT(self->loop_clock);
    Py_VISIT(self->send);
    Py_VISIT(self->send_rest);
    Py_VISIT(self->fileno);
    return 0;
}

static int
batch_clear(FrameBatch *self)
{
    Py_CLEAR(self->next_key);
    Py_CLEAR(self->clock);
    Py_CLEAR(self->loop_clock);
    Py_CLEAR(self->send);
    Py_CLEAR(self->send_rest);
    Py_CLEAR(self->fileno);
    return 0;
}

static void
batch_dealloc(FrameBatch *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    batch_clear(self);
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
    {"send_frames", (PyCFunction)batch_send_frames, METH_O, NULL},
    {"take", (PyCFunction)batch_take, METH_NOARGS, NULL},
    {"take_alone", (PyCFunction)batch_take_alone, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef batch_members[] = {
    {"closed_for", T_PYSSIZET, offsetof(FrameBatch, closed_for), 0, NULL},
    {"capacity", T_PYSSIZET, offsetof(FrameBatch, capacity), 0, NULL},
    {"largest", T_PYSSIZET, offsetof(FrameBatch, largest), 0, NULL},
    {"sends_until_yield", T_PYSSIZET, offsetof(FrameBatch, sends_until_yield), 0, NULL},
    {"clock", T_OBJECT, offsetof(FrameBatch, clock), 0, NULL},
    {"loop_clock", T_OBJECT, offsetof(FrameBatch, loop_clock), 0, NULL},
    {"send", T_OBJECT, offsetof(FrameBatch, send), 0, NULL},
    {"send_rest", T_OBJECT, offsetof(FrameBatch, send_rest), 0, NULL},
    {"fileno", T_OBJECT, offsetof(FrameBatch, fileno), 0, NULL},
    {"last_send", T_DOUBLE, offsetof(FrameBatch, last_send), 0, NULL},
    {"left_at", T_DOUBLE, offsetof(FrameBatch, left_at), 0, NULL},
    {"others", T_PYSSIZET, offsetof(FrameBatch, others), 0, NULL},
    {"sent", T_PYSSIZET, offsetof(FrameBatch, sent), 0, NULL},
    {"answers", T_BOOL, offsetof(FrameBatch, answers), 0, NULL},
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
