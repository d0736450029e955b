/* The compiled version of `scan.py`, `masking.py` and `framing.py`, which say what each function promises;
   the tests compare the two versions.

   The bytes are the peer's. Each read follows a check against the end of the buffer. Nothing here decides
   that the peer broke a rule: a frame that is not plainly a complete message is left to the decoder. */

#include "_speedups.h"

#define SCRATCH 4096 /* bytes of masked text that are unmasked on the stack */

/* On x86-64, the widest registers that the machine has do the XOR, chosen when the module is loaded. That
   needs glibc, and a compiler that knows how. */
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__has_attribute)
#if __has_attribute(target_clones)
#define WIDEST __attribute__((target_clones("avx512f", "avx2", "default")))
#endif
#endif
#ifndef WIDEST
#define WIDEST
#endif

/* `out` may be `in`. Byte i of `in` is byte `offset` + i of the frame's payload (section 5.3). */
WIDEST static void
xor_bytes(uint8_t *out, const uint8_t *in, size_t size, const uint8_t *key, size_t offset)
{
    uint8_t turned[8];
    uint64_t mask, word;
    size_t i;
    for (i = 0; i < 8; i++) {
        turned[i] = key[(offset + i) & 3];
    }
    memcpy(&mask, turned, 8);
    for (i = 0; i + 8 <= size; i += 8) {
        memcpy(&word, in + i, 8);
        word ^= mask;
        memcpy(out + i, &word, 8);
    }
    for (; i < size; i++) {
        out[i] = in[i] ^ turned[i & 7];
    }
}

/* Bytes of a header's extended length (section 5.2). */
static size_t
extended_size(size_t length)
{
    return length < 126 ? 0 : length < 0x10000 ? 2 : 8;
}

size_t
header_size(size_t length, int masked)
{
    return 2 + extended_size(length) + (masked ? 4 : 0);
}

size_t
message_header(const uint8_t *data, size_t available, int masked, int flags, uint64_t *length)
{
    size_t i, size, extended = 0;
    uint64_t declared;
    if (available < 2 || ((data[0] & ~flags) != 0x81 && (data[0] & ~flags) != 0x82) || (data[1] >> 7) != masked) {
        return 0;
    }
    declared = data[1] & 0x7f;
    if (declared > 125) {
        extended = declared == 126 ? 2 : 8;
        if (available < 2 + extended) {
            return 0;
        }
        for (declared = 0, i = 2; i < 2 + extended; i++) {
            declared = declared << 8 | data[i];
        }
        if (extended_size(declared) != extended) {
            return 0;
        }
    }
    *length = declared;
    size = 2 + extended + (masked ? 4 : 0);
    return available < size ? 0 : size;
}

static PyObject *
make_bytes(const uint8_t *payload, size_t length, const uint8_t *key)
{
    PyObject *result = PyBytes_FromStringAndSize(key == NULL ? (const char *)payload : NULL, length);
    if (result != NULL && key != NULL) {
        xor_bytes((uint8_t *)PyBytes_AS_STRING(result), payload, length, key, 0);
    }
    return result;
}

static PyObject *
make_str(const uint8_t *payload, size_t length, const uint8_t *key)
{
    uint8_t scratch[SCRATCH];
    uint8_t *plain = scratch;
    PyObject *result;
    if (key == NULL) {
        return PyUnicode_DecodeUTF8((const char *)payload, length, NULL);
    }
    if (length > SCRATCH && (plain = PyMem_Malloc(length)) == NULL) {
        return PyErr_NoMemory();
    }
    xor_bytes(plain, payload, length, key, 0);
    result = PyUnicode_DecodeUTF8((const char *)plain, length, NULL);
    if (plain != scratch) {
        PyMem_Free(plain);
    }
    return result;
}

static PyObject *
make_chunk(ModuleState *state, int text, const uint8_t *payload, size_t length, const uint8_t *key)
{
    PyObject *chunk = state->chunk->tp_alloc(state->chunk, 4), *data = make_bytes(payload, length, key);
    if (chunk == NULL || data == NULL) {
        Py_XDECREF(data);
        Py_XDECREF(chunk);
        return NULL;
    }
    PyTuple_SET_ITEM(chunk, 0, Py_NewRef(text ? state->names[TEXT] : state->names[BINARY]));
    PyTuple_SET_ITEM(chunk, 1, data);
    PyTuple_SET_ITEM(chunk, 2, Py_NewRef(Py_True)); /* last */
    PyTuple_SET_ITEM(chunk, 3, Py_NewRef(Py_True)); /* compressed */
    return chunk;
}

Py_ssize_t
scan_messages(ModuleState *state, const uint8_t *data, Py_ssize_t start, Py_ssize_t stop, int masked, int rsv1,
              Py_ssize_t room, Py_ssize_t most, PyObject *messages, Py_ssize_t *cost)
{
    size_t pos = (size_t)start, end = (size_t)stop;
    uint64_t length = 0;
    int flags = rsv1 ? 0x40 : 0;
    Py_ssize_t count;
    for (*cost = count = 0; count < most && *cost < room; count++) {
        const uint8_t *frame = data + pos;
        size_t header = message_header(frame, end - pos, masked, flags, &length);
        const uint8_t *key;
        PyObject *message;
        if (header == 0 || length > end - pos - header) {
            break;
        }
        key = masked ? frame + header - 4 : NULL;
        message = frame[0] & 0x40 ? make_chunk(state, frame[0] & 1, frame + header, length, key)
                  : frame[0] & 1  ? make_str(frame + header, length, key)
                                  : make_bytes(frame + header, length, key);
        if (message == NULL && PyErr_ExceptionMatches(PyExc_UnicodeDecodeError)) {
            PyErr_Clear(); /* the decoder finds it again, and reports the violation */
            break;
        }
        if (message == NULL || PyList_Append(messages, message) < 0) {
            Py_XDECREF(message);
            return -1;
        }
        Py_DECREF(message);
        *cost += (Py_ssize_t)length + PIECE_OVERHEAD;
        pos += header + length;
    }
    return (Py_ssize_t)pos;
}

static PyObject *
scan(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    Py_buffer data;
    Py_ssize_t pos, room, most, cost;
    int masked, rsv1;

    if (nargs != 7 || !PyList_Check(args[6])) {
        PyErr_SetString(PyExc_TypeError, "scan() takes data, pos, masked, rsv1, room, most and a list");
        return NULL;
    }
    pos = PyLong_AsSsize_t(args[1]);
    masked = PyObject_IsTrue(args[2]);
    rsv1 = PyObject_IsTrue(args[3]);
    room = PyLong_AsSsize_t(args[4]);
    most = PyLong_AsSsize_t(args[5]);
    if (PyErr_Occurred() || PyObject_GetBuffer(args[0], &data, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    if (pos < 0 || pos > data.len) {
        PyErr_SetString(PyExc_ValueError, "pos must be within data");
        pos = -1;
    }
    else {
        pos = scan_messages(PyModule_GetState(module), data.buf, pos, data.len, masked, rsv1, room, most, args[6],
                            &cost);
    }
    PyBuffer_Release(&data);
    return pos < 0 ? NULL : Py_BuildValue("(nn)", pos, cost);
}

const uint8_t *
key_bytes(PyObject *key)
{
    if (!PyBytes_Check(key)) {
        PyErr_SetString(PyExc_TypeError, "a masking key must be bytes");
        return NULL;
    }
    if (PyBytes_GET_SIZE(key) != 4) {
        PyErr_SetString(PyExc_ValueError, "a masking key must be 4 bytes long");
        return NULL;
    }
    return (const uint8_t *)PyBytes_AS_STRING(key);
}

static PyObject *
apply_mask(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    Py_buffer payload;
    const uint8_t *key;
    uint64_t offset;
    PyObject *result;

    if (nargs < 2 || nargs > 3) {
        PyErr_SetString(PyExc_TypeError, "apply_mask() takes payload, key and an offset");
        return NULL;
    }
    offset = nargs == 3 ? PyLong_AsUnsignedLongLongMask(args[2]) : 0; /* only its last two bits matter */
    if (PyErr_Occurred() || (key = key_bytes(args[1])) == NULL
        || PyObject_GetBuffer(args[0], &payload, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    if ((result = PyBytes_FromStringAndSize(NULL, payload.len)) != NULL) {
        xor_bytes((uint8_t *)PyBytes_AS_STRING(result), payload.buf, payload.len, key, (size_t)offset & 3);
    }
    PyBuffer_Release(&payload);
    return result;
}

static PyObject *
mask_in_place(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    Py_buffer payload;
    const uint8_t *key;

    if (nargs != 2) {
        PyErr_SetString(PyExc_TypeError, "mask_in_place() takes payload and key");
        return NULL;
    }
    if ((key = key_bytes(args[1])) == NULL || PyObject_GetBuffer(args[0], &payload, PyBUF_WRITABLE) < 0) {
        return NULL;
    }
    xor_bytes(payload.buf, payload.buf, payload.len, key, 0);
    PyBuffer_Release(&payload);
    Py_RETURN_NONE;
}

void
write_frame(uint8_t *out, int first, const uint8_t *payload, size_t length, const uint8_t *key)
{
    size_t extended = extended_size(length);
    *out++ = (uint8_t)first;
    *out++ = (uint8_t)((key != NULL ? 0x80 : 0) | (extended == 0 ? length : extended == 2 ? 126 : 127));
    while (extended > 0) {
        *out++ = (uint8_t)((uint64_t)length >> 8 * --extended);
    }
    if (key == NULL) {
        memcpy(out, payload, length);
    }
    else {
        memcpy(out, key, 4);
        xor_bytes(out + 4, payload, length, key, 0);
    }
}

static PyObject *
make_frame(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    Py_buffer payload;
    const uint8_t *key = NULL;
    PyObject *result = NULL;
    long first;

    if (nargs != 3) {
        PyErr_SetString(PyExc_TypeError, "make_frame() takes an int, payload and key");
        return NULL;
    }
    first = PyLong_AsLong(args[0]);
    if ((first == -1 && PyErr_Occurred()) || (args[2] != Py_None && (key = key_bytes(args[2])) == NULL)
        || PyObject_GetBuffer(args[1], &payload, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    if (first < 0 || first > 0xff) {
        PyErr_SetString(PyExc_ValueError, "first must be between 0 and 255");
    }
    else if (payload.len > PY_SSIZE_T_MAX - MAX_HEADER) {
        PyErr_NoMemory();
    }
    else {
        Py_ssize_t size = (Py_ssize_t)header_size(payload.len, key != NULL) + payload.len;
        result = PyBytes_FromStringAndSize(NULL, size);
        if (result != NULL) {
            write_frame((uint8_t *)PyBytes_AS_STRING(result), (int)first, payload.buf, payload.len, key);
        }
    }
    PyBuffer_Release(&payload);
    return result;
}

static PyMethodDef methods[] = {
    {"make_frame", (PyCFunction)(void (*)(void))make_frame, METH_FASTCALL, "see framing.py"},
    {"scan", (PyCFunction)(void (*)(void))scan, METH_FASTCALL, "see scan.py"},
    {"apply_mask", (PyCFunction)(void (*)(void))apply_mask, METH_FASTCALL, "see masking.py"},
    {"mask_in_place", (PyCFunction)(void (*)(void))mask_in_place, METH_FASTCALL, "see masking.py"},
    {NULL, NULL, 0, NULL},
};

/* -- the module ----------------------------------------------------------------------------------------- */

static int
module_exec(PyObject *module)
{
    static PyType_Spec *const specs[TYPES] = {
        [FRAME_BATCH] = &frame_batch_spec,
        [MESSAGE_ITERATOR] = &message_iterator_spec,
        [NEXT] = &next_spec,
        [READ_STEP] = &read_step_spec,
        [UNREAD_QUEUE] = &unread_queue_spec,
    };
    static const char *const names[NAMES] = {
        [TAKE_REST] = "take_rest",
        [END_OF_STREAM] = "end_of_stream",
        [WAKE_RECEIVER] = "wake_receiver",
        [STEP_FAILED] = "step_failed",
        [TEXT] = "text",
        [BINARY] = "binary",
    };
    ModuleState *state = PyModule_GetState(module);
    PyObject *events = PyImport_ImportModule("wsstream.codec.events");
    int i;
    if (events == NULL) {
        return -1;
    }
    state->chunk = (PyTypeObject *)PyObject_GetAttrString(events, "Chunk");
    Py_DECREF(events);
    for (i = 0; i < NAMES; i++) {
        if ((state->names[i] = PyUnicode_InternFromString(names[i])) == NULL) {
            return -1;
        }
    }
    for (i = 0; state->chunk != NULL && i < TYPES; i++) {
        state->types[i] = (PyTypeObject *)PyType_FromModuleAndSpec(module, specs[i], NULL);
        if (state->types[i] == NULL || PyModule_AddType(module, state->types[i]) < 0) {
            break;
        }
    }
    return i == TYPES ? 0 : -1;
}

static int
module_traverse(PyObject *module, visitproc visit, void *arg)
{
    ModuleState *state = PyModule_GetState(module);
    int i;
    Py_VISIT(state->chunk);
    for (i = 0; i < TYPES; i++) {
        Py_VISIT(state->types[i]);
    }
    return 0;
}

static int
module_clear(PyObject *module)
{
    ModuleState *state = PyModule_GetState(module);
    int i;
    Py_CLEAR(state->chunk);
    for (i = 0; i < NAMES; i++) {
        Py_CLEAR(state->names[i]);
    }
    for (i = 0; i < TYPES; i++) {
        Py_CLEAR(state->types[i]);
    }
    return 0;
}

static void
module_free(void *module)
{
    module_clear(module);
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, module_exec},
#if PY_VERSION_HEX >= 0x030C0000
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "wsstream.codec._speedups",
    .m_doc = "The compiled version of the codec's hot paths.",
    .m_size = sizeof(ModuleState),
    .m_methods = methods,
    .m_slots = slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = module_free,
};

PyMODINIT_FUNC
PyInit__speedups(void)
{
    return PyModuleDef_Init(&definition);
}
