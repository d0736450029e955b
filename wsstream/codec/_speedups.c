/* The compiled twin of the codec's leaf functions. `scan.py` and `masking.py` are the same in Python and
   say what each function promises; tests hold one against the other.

   The bytes are the peer's. Every read is behind a check against the end of the buffer, and nothing here
   judges: a frame that is not plainly a whole message is left to the decoder. */

#include "_speedups.h"
#include <string.h>

#define SCRATCH 4096 /* bytes of masked text that are unmasked on the stack */

/* `out` may be `in`. Byte i of `in` is byte `offset` + i of the frame's payload (section 5.3). */
static void
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

/* The header of a whole message, that is of an unfragmented data frame without reserved bits, at the
   beginning of `data`: its size, with the payload's length in `*length`. 0: this is something else, or it
   is not here to its end, or it breaks a rule. */
static size_t
message_header(const uint8_t *data, size_t available, int masked, size_t *length)
{
    size_t size = 2;
    uint64_t declared;
    if (available < 2 || (data[0] != 0x81 && data[0] != 0x82) || (data[1] >> 7) != masked) {
        return 0;
    }
    declared = data[1] & 0x7f;
    if (declared == 126) {
        if (available < 4) {
            return 0;
        }
        declared = (uint64_t)data[2] << 8 | data[3];
        if (declared < 126) {
            return 0;
        }
        size = 4;
    }
    else if (declared == 127) {
        if (available < 10) {
            return 0;
        }
        declared = 0;
        for (size = 2; size < 10; size++) {
            declared = declared << 8 | data[size];
        }
        if (declared < 0x10000) {
            return 0;
        }
    }
    if (masked) {
        size += 4;
    }
    if (available < size || declared > available - size) {
        return 0;
    }
    *length = (size_t)declared;
    return size;
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

PyDoc_STRVAR(scan_doc, "scan(data, pos, masked, room, most, events) -> (pos, cost): see scan.py");

static PyObject *
scan(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    Py_buffer data;
    Py_ssize_t start, room, most, count;
    size_t pos, end, cost = 0, length = 0;
    int masked;
    PyObject *events;

    if (nargs != 6 || !PyList_Check(args[5])) {
        PyErr_SetString(PyExc_TypeError, "scan() takes data, pos, masked, room, most and a list");
        return NULL;
    }
    start = PyLong_AsSsize_t(args[1]);
    masked = PyObject_IsTrue(args[2]);
    room = PyLong_AsSsize_t(args[3]);
    most = PyLong_AsSsize_t(args[4]);
    if (PyErr_Occurred() || PyObject_GetBuffer(args[0], &data, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    if (start < 0 || start > data.len) {
        PyBuffer_Release(&data);
        PyErr_SetString(PyExc_ValueError, "pos is outside of data");
        return NULL;
    }
    events = args[5];
    pos = (size_t)start;
    end = (size_t)data.len;
    for (count = 0; count < most && room > 0 && cost < (size_t)room; count++) {
        const uint8_t *frame = (const uint8_t *)data.buf + pos;
        size_t header = message_header(frame, end - pos, masked, &length);
        const uint8_t *key;
        PyObject *message;
        int failed;
        if (header == 0) {
            break;
        }
        key = masked ? frame + header - 4 : NULL;
        message = frame[0] == 0x82 ? make_bytes(frame + header, length, key)
                                   : make_str(frame + header, length, key);
        if (message == NULL && PyErr_ExceptionMatches(PyExc_UnicodeDecodeError)) {
            PyErr_Clear(); /* the decoder finds it again, and says so */
            break;
        }
        failed = message == NULL || PyList_Append(events, message) < 0;
        Py_XDECREF(message);
        if (failed) {
            PyBuffer_Release(&data);
            return NULL;
        }
        cost += length + PIECE_OVERHEAD;
        pos += header + length;
    }
    PyBuffer_Release(&data);
    return Py_BuildValue("(nn)", (Py_ssize_t)pos, (Py_ssize_t)cost);
}

PyDoc_STRVAR(apply_mask_doc, "apply_mask(payload, key, offset=0) -> bytes: see masking.py");

static PyObject *
apply_mask(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    Py_buffer payload, key;
    size_t offset = 0;
    PyObject *result = NULL;

    if (nargs < 2 || nargs > 3) {
        PyErr_SetString(PyExc_TypeError, "apply_mask() takes payload, key and an offset");
        return NULL;
    }
    if (nargs == 3) {
        offset = PyLong_AsSize_t(args[2]);
        if (PyErr_Occurred()) {
            return NULL;
        }
    }
    if (PyObject_GetBuffer(args[0], &payload, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    if (PyObject_GetBuffer(args[1], &key, PyBUF_SIMPLE) < 0) {
        PyBuffer_Release(&payload);
        return NULL;
    }
    if (key.len != 4) {
        PyErr_SetString(PyExc_ValueError, "a masking key must be 4 bytes long");
    }
    else if ((result = PyBytes_FromStringAndSize(NULL, payload.len)) != NULL) {
        xor_bytes((uint8_t *)PyBytes_AS_STRING(result), payload.buf, payload.len, key.buf, offset & 3);
    }
    PyBuffer_Release(&key);
    PyBuffer_Release(&payload);
    return result;
}

size_t
header_size(size_t length, int masked)
{
    return 2 + (length < 126 ? 0 : length < 0x10000 ? 2 : 8) + (masked ? 4 : 0);
}

void
write_frame(uint8_t *out, int first, const uint8_t *payload, size_t length, const uint8_t *key)
{
    size_t extended = length < 126 ? 0 : length < 0x10000 ? 2 : 8;
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

const uint8_t *
key_bytes(PyObject *key)
{
    if (!PyBytes_Check(key) || PyBytes_GET_SIZE(key) != 4) {
        PyErr_SetString(PyExc_ValueError, "a masking key must be 4 bytes long");
        return NULL;
    }
    return (const uint8_t *)PyBytes_AS_STRING(key);
}

PyDoc_STRVAR(make_frame_doc, "make_frame(first, payload, key) -> bytes: see framing.py");

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
        PyErr_SetString(PyExc_ValueError, "first is a byte");
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
    {"make_frame", (PyCFunction)(void (*)(void))make_frame, METH_FASTCALL, make_frame_doc},
    {"scan", (PyCFunction)(void (*)(void))scan, METH_FASTCALL, scan_doc},
    {"apply_mask", (PyCFunction)(void (*)(void))apply_mask, METH_FASTCALL, apply_mask_doc},
    {NULL, NULL, 0, NULL},
};

static int
add_types(PyObject *module)
{
    if (PyType_Ready(&Next_Type) < 0 || PyModule_AddType(module, &FrameBatch_Type) < 0
        || PyModule_AddType(module, &UnreadQueue_Type) < 0) {
        return -1;
    }
    return PyModule_AddType(module, &MessageIterator_Type);
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, add_types},
#if PY_VERSION_HEX >= 0x030C0000
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED}, /* the types are static */
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "wsstream.codec._speedups",
    .m_doc = "The compiled twin of the codec's leaf functions.",
    .m_size = 0,
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit__speedups(void)
{
    return PyModuleDef_Init(&definition);
}
