/* Shared by the three files of the codec's compiled version.

   Nothing here releases the GIL, and everything here relies on it: objects are changed without a lock, and
   a buffer of the caller is read while no other thread can run. So the module does not declare Py_mod_gil,
   and a free-threaded Python switches the GIL on when it is imported. All state belongs to one module
   object, so interpreters with a GIL of their own share nothing. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>
#include <structmember.h>

#define PIECE_OVERHEAD 64 /* as in events.py */
#define MAX_HEADER 14     /* as in frames.py */

#if SIZEOF_SIZE_T < 8
#error "sizes above 32 bits are used throughout; on a 32-bit system the codec stays in Python"
#endif

enum { FRAME_BATCH, MESSAGE_ITERATOR, NEXT, UNREAD_QUEUE, TYPES };

typedef struct {
    PyTypeObject *chunk; /* events.Chunk, a named tuple */
    PyObject *text, *binary; /* the kinds of messages */
    PyTypeObject *types[TYPES];
} ModuleState;

extern PyType_Spec frame_batch_spec, message_iterator_spec, next_spec, unread_queue_spec;

/* The size of the header of a frame with `length` bytes of payload. */
size_t header_size(size_t length, int masked);

/* Write a frame: a header of `header_size` bytes and the payload (section 5.2). `key`: 4 bytes, or NULL. */
void write_frame(uint8_t *out, int first, const uint8_t *payload, size_t length, const uint8_t *key);

/* The 4 bytes of a masking key, which live as long as `key`; NULL with an exception. */
const uint8_t *key_bytes(PyObject *key);
