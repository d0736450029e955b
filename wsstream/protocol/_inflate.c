/* The compiled version of `PythonInflater` in `inflate.py`, which says what each method promises; the tests
   run on both.

   The data is the peer's; zlib checks it, and writes straight into the bytes that are returned. Nothing here
   releases the GIL, so no other thread meets a stream half-way: a call inflates no more than one step may. */

#define PY_SSIZE_T_CLEAN
#define ZLIB_CONST
#include <Python.h>
#include <stdint.h>
#include <string.h>
#include <structmember.h>
#include <zlib.h>

#define LEAST 256      /* bytes of output that are allocated at first */
#define MOST (1 << 30) /* bytes in one call; zlib counts them in 32 bits */

typedef struct {
    PyObject_HEAD
    z_stream stream;
    int window;
    char remembers;
    char allocated;   /* the stream has memory */
    char live;        /* data has come since the stream began, or since its last final block */
    char begun;       /* the message has at least one compressed byte */
    PyObject *data;   /* compressed, bytes or NULL */
    Py_ssize_t start; /* what zlib has consumed of it */
    Py_ssize_t guess; /* what to allocate: a little more than the last output */
} Inflater;

static voidpf
allocate(voidpf Py_UNUSED(opaque), uInt items, uInt size)
{
    return PyMem_RawCalloc(items, size);
}

static void
deallocate(voidpf Py_UNUSED(opaque), voidpf memory)
{
    PyMem_RawFree(memory);
}

/* Set the exception for what zlib has returned. */
static void
set_error(Inflater *self, int status)
{
    if (status == Z_MEM_ERROR) {
        PyErr_NoMemory();
    }
    else {
        PyErr_Format(PyExc_ValueError, "a compressed message is not deflate: %s",
                     self->stream.msg != NULL ? self->stream.msg : "zlib gives no reason");
    }
}

/* Begin the stream, perhaps afresh after a final block (section 7.2.3.4). */
static int
begin_stream(Inflater *self)
{
    int status;
    if (self->allocated) {
        status = inflateReset(&self->stream);
    }
    else {
        memset(&self->stream, 0, sizeof(self->stream));
        self->stream.zalloc = allocate;
        self->stream.zfree = deallocate;
        status = inflateInit2(&self->stream, -self->window);
    }
    if (status != Z_OK) {
        set_error(self, status);
        return -1;
    }
    self->allocated = self->live = 1;
    return 0;
}

/* Inflate up to `most` bytes of the data; new bytes, fewer only if the data is used up. */
static PyObject *
inflate_data(Inflater *self, Py_ssize_t most)
{
    z_stream *stream = &self->stream;
    Py_ssize_t length = self->data != NULL ? PyBytes_GET_SIZE(self->data) : 0;
    Py_ssize_t size = Py_MIN(self->guess, most), done = 0;
    PyObject *out = PyBytes_FromStringAndSize(NULL, size);
    while (out != NULL && (self->live || self->start < length)) {
        int status;
        if (!self->live && begin_stream(self) < 0) {
            Py_CLEAR(out);
            break;
        }
        stream->next_in = length > 0 ? (const uint8_t *)PyBytes_AS_STRING(self->data) + self->start : NULL;
        stream->avail_in = (uInt)(length - self->start);
        stream->next_out = (uint8_t *)PyBytes_AS_STRING(out) + done;
        stream->avail_out = (uInt)(size - done);
        status = inflate(stream, Z_SYNC_FLUSH);
        self->start = length - stream->avail_in;
        done = size - stream->avail_out;
        if (status == Z_STREAM_END) {
            self->live = 0;
        }
        else if (status != Z_OK && status != Z_BUF_ERROR) { /* Z_BUF_ERROR: there was nothing to do */
            set_error(self, status);
            Py_CLEAR(out);
            break;
        }
        else if (done < size) { /* the data is used up, or more would have come */
            break;
        }
        if (done == size) {
            if (size == most) {
                break;
            }
            size = size < most / 2 ? size * 2 : most;
            _PyBytes_Resize(&out, size); /* clears `out` if it fails */
        }
    }
    if (out != NULL) {
        self->guess = done + done / 8 + LEAST;
        _PyBytes_Resize(&out, done);
    }
    return out;
}

/* Drop the rest of the message; and the context, if `all` or no message may refer to it. */
static void
drop(Inflater *self, int all)
{
    Py_CLEAR(self->data);
    self->start = self->begun = 0;
    if (self->allocated && (all || !self->remembers)) {
        inflateEnd(&self->stream);
        self->allocated = self->live = 0;
    }
}

/* End the message; -1 with an exception. It is complete if its data and the tail, which the sender has removed,
   end between two blocks (section 7.2.2). zlib.h says of `data_type`: 128 just after the code that ends a
   block; in the low six bits, how many bits of the last byte were not used. */
static int
end_message(Inflater *self)
{
    static const uint8_t tail[] = {0, 0, 0xff, 0xff};
    z_stream *stream = &self->stream;
    int status = Z_STREAM_END, complete = 1;
    uint8_t out;
    if (!self->begun) {
        PyErr_SetString(PyExc_ValueError,
                        "a compressed message has no data (one byte at least: section 7.2.3.6)");
        return -1;
    }
    if (self->live) { /* the data did not end with a final block */
        stream->next_in = tail;
        stream->avail_in = sizeof(tail);
        stream->next_out = &out;
        stream->avail_out = 1;
        status = inflate(stream, Z_SYNC_FLUSH);
        self->live = status != Z_STREAM_END;
        complete = stream->avail_in == 0 && stream->avail_out == 1
                   && (!self->live || (status == Z_OK && (stream->data_type & (128 | 63)) == 128));
        stream->next_out = NULL;
    }
    if (!complete) {
        if (status == Z_MEM_ERROR) {
            PyErr_NoMemory();
        }
        else {
            PyErr_SetString(PyExc_ValueError, "a compressed message ends inside a block");
        }
        return -1;
    }
    drop(self, 0);
    return 0;
}

static int
set_data(Inflater *self, PyObject *data)
{
    if (!PyBytes_CheckExact(data) || PyBytes_GET_SIZE(data) > MOST) {
        PyErr_SetString(PyExc_TypeError, "compressed data must be bytes, of 1 GiB at most");
        return -1;
    }
    if (self->data != NULL && self->start < PyBytes_GET_SIZE(self->data)) {
        PyErr_SetString(PyExc_AssertionError, "the data before it has not been taken");
        return -1;
    }
    self->begun |= PyBytes_GET_SIZE(data) > 0;
    self->start = 0;
    Py_XSETREF(self->data, Py_NewRef(data));
    return 0;
}

/* What a caller asks for, as a number of bytes; -1 with an exception. */
static Py_ssize_t
most_of(PyObject *max_bytes)
{
    Py_ssize_t most = PyLong_AsSsize_t(max_bytes);
    if (most > 0) {
        return Py_MIN(most, MOST);
    }
    if (!PyErr_Occurred()) {
        PyErr_SetString(PyExc_AssertionError, "one byte at least must be asked for");
    }
    return -1;
}

static PyObject *
inflater_feed(Inflater *self, PyObject *data)
{
    return set_data(self, data) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
inflater_take(Inflater *self, PyObject *max_bytes)
{
    Py_ssize_t most = most_of(max_bytes);
    return most < 0 ? NULL : inflate_data(self, most);
}

static PyObject *
inflater_take_whole(Inflater *self, PyObject *const *args, Py_ssize_t nargs)
{
    PyObject *chunk, *result;
    Py_ssize_t most;
    int whole;
    if (nargs != 2) {
        PyErr_SetString(PyExc_TypeError, "take_whole() takes data and a number of bytes");
        return NULL;
    }
    if ((most = most_of(args[1])) < 0 || set_data(self, args[0]) < 0
        || (chunk = inflate_data(self, most)) == NULL) {
        return NULL;
    }
    whole = PyBytes_GET_SIZE(chunk) < most;
    if (whole && end_message(self) < 0) {
        Py_DECREF(chunk);
        return NULL;
    }
    result = PyTuple_Pack(2, chunk, whole ? Py_True : Py_False);
    Py_DECREF(chunk);
    return result;
}

static PyObject *
inflater_end(Inflater *self, PyObject *Py_UNUSED(ignored))
{
    return end_message(self) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
inflater_forget(Inflater *self, PyObject *Py_UNUSED(ignored))
{
    drop(self, 0);
    Py_RETURN_NONE;
}

static PyObject *
inflater_release(Inflater *self, PyObject *Py_UNUSED(ignored))
{
    drop(self, 1);
    Py_RETURN_NONE;
}

static PyObject *
inflater_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"window", "takeover", NULL};
    int window, takeover;
    Inflater *self;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "ip", names, &window, &takeover)
        || (self = (Inflater *)type->tp_alloc(type, 0)) == NULL) {
        return NULL;
    }
    self->window = window;
    self->remembers = (char)takeover;
    self->guess = LEAST;
    return (PyObject *)self;
}

static void
inflater_dealloc(Inflater *self)
{
    PyTypeObject *type = Py_TYPE(self);
    drop(self, 1);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"feed", (PyCFunction)inflater_feed, METH_O, NULL},
    {"take", (PyCFunction)inflater_take, METH_O, NULL},
    {"take_whole", (PyCFunction)(void (*)(void))inflater_take_whole, METH_FASTCALL, NULL},
    {"end", (PyCFunction)inflater_end, METH_NOARGS, NULL},
    {"forget", (PyCFunction)inflater_forget, METH_NOARGS, NULL},
    {"release", (PyCFunction)inflater_release, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef members[] = {
    {"remembers", T_BOOL, offsetof(Inflater, remembers), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot type_slots[] = {
    {Py_tp_doc, "see inflate.py"}, {Py_tp_new, inflater_new}, {Py_tp_dealloc, inflater_dealloc},
    {Py_tp_methods, methods},      {Py_tp_members, members},  {0, NULL},
};

static PyType_Spec type_spec = {
    .name = "wsstream.protocol._inflate.Inflater",
    .basicsize = sizeof(Inflater),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = type_slots,
};

static int
module_exec(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &type_spec, NULL);
    int status = type == NULL ? -1 : PyModule_AddType(module, (PyTypeObject *)type);
    Py_XDECREF(type);
    return status < 0 ? -1 : PyModule_AddStringConstant(module, "ZLIB_VERSION", zlibVersion());
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
#if PY_VERSION_HEX >= 0x030C0000
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
    {0, NULL},
};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "wsstream.protocol._inflate",
    .m_doc = "The compiled version of the inflater.",
    .m_slots = module_slots,
};

PyMODINIT_FUNC
PyInit__inflate(void)
{
    return PyModuleDef_Init(&definition);
}
