/* What the files of the compiled twin share. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

#define PIECE_OVERHEAD 64 /* as in events.py */
#define MAX_HEADER 14

#if SIZEOF_SIZE_T < 8
#error "sizes above 32 bits are used throughout: there the codec stays pure"
#endif

extern PyTypeObject FrameBatch_Type, MessageIterator_Type, Next_Type, UnreadQueue_Type;

/* The size of the header of a frame with `length` bytes of payload. */
size_t header_size(size_t length, int masked);

/* Write a frame of just that size (section 5.2); `key`: 4 bytes, or NULL. */
void write_frame(uint8_t *out, int first, const uint8_t *payload, size_t length, const uint8_t *key);

/* The 4 bytes of a masking key that lives as long as `key`; NULL with an exception. */
const uint8_t *key_bytes(PyObject *key);
