/* Shared by the files of the codec's compiled version.

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

#define CLOSED_FOR_RECEIVER 2 /* as in unread.py */

/* Names of methods that are called, and of the kinds of messages. */
enum { TAKE_REST, END_OF_STREAM, WAKE_RECEIVER, STEP_FAILED, TEXT, BINARY, NAMES };

enum { FRAME_BATCH, MESSAGE_ITERATOR, NEXT, READ_STEP, UNREAD_QUEUE, TYPES };

typedef struct {
    PyTypeObject *chunk; /* events.Chunk, a named tuple */
    PyTypeObject *types[TYPES];
    PyObject *names[NAMES];
} ModuleState;

extern PyType_Spec frame_batch_spec, message_iterator_spec, next_spec, read_step_spec, unread_queue_spec;

struct Next;

typedef struct {
    PyObject_HEAD
    PyObject *items; /* a list; in place of the first `head`, which were taken, it holds None */
    Py_ssize_t head;
    Py_ssize_t cost;
    Py_ssize_t limit;
    Py_ssize_t low_water;
    Py_ssize_t closed_for;
    PyObject *inflate; /* a callable, or None or NULL */
    struct Next *parked; /* what a task of asyncio waits for, or NULL; borrowed */
} UnreadQueue;

typedef struct {
    PyObject_HEAD
    PyObject *buffer; /* bytes of some capacity, or NULL */
    Py_ssize_t used;
    PyObject *next_key; /* NULL: frames are not masked */
    Py_ssize_t closed_for;
    Py_ssize_t capacity;
    Py_ssize_t largest;
    Py_ssize_t sends_until_yield;
    PyObject *clock;     /* these five: callables, or None or NULL */
    PyObject *loop_clock;
    PyObject *send;
    PyObject *send_rest;
    PyObject *fileno; /* of a socket */
    double last_send;
    double left_at;
    Py_ssize_t others;
    Py_ssize_t sent;
    char answers;
} FrameBatch;

typedef struct {
    PyObject_HEAD
    UnreadQueue *queue;
    FrameBatch *batch;
    PyObject *receive;
    PyObject *buffer; /* a memoryview */
    Py_buffer view;   /* its memory */
    PyObject *beginning; /* bytes, or NULL */
    PyObject *owner;
    PyObject *otherwise;
    Py_ssize_t high_water;
    Py_ssize_t due;
    Py_ssize_t alike; /* bytes of a message at the last step, on average, or 0 */
    Py_ssize_t bytes_received;
    double density;
    double received_at;
    char masked;
    char rsv1;
    char open;
    char skip;
    char drained;
    char watched;
    char keeps;
} ReadStep;

/* Receive from, or send to, the batch's socket without waiting: the number of bytes, -1: none now, -2 with an
   exception, -3: there is no open socket, or system calls are not made here. */
Py_ssize_t receive_directly(FrameBatch *batch, void *data, Py_ssize_t size);
Py_ssize_t send_directly(FrameBatch *batch, const void *data, Py_ssize_t size);

/* What a clock of a batch says: 0 without it, -1 with an exception. */
double clock_time(PyObject *clock);

/* The items in the queue. */
Py_ssize_t unread_count(UnreadQueue *queue);

/* As the method of that name: a new reference; NULL without an exception: no message can be taken now. */
PyObject *take_message_now(UnreadQueue *queue);

/* Wake the task that waits for a message in the queue; 1, 0: none waits, -1 with an exception. */
int wake_parked(UnreadQueue *queue, int at_once);

/* Append the plain messages of `data[pos:end]` to the list, see `scan.py`; return the position after them and
   their cost in `*cost`. -1 with an exception: those in the list have that cost. */
Py_ssize_t scan_messages(ModuleState *state, const uint8_t *data, Py_ssize_t pos, Py_ssize_t end, int masked,
                         int rsv1, Py_ssize_t room, Py_ssize_t most, PyObject *messages, Py_ssize_t *cost);

/* The size of the header that `data` begins with and the length that it declares in `*length`. 0: it is no
   complete header of an unfragmented data frame without reserved bits but those in `flags`, or breaks a rule. */
size_t message_header(const uint8_t *data, size_t available, int masked, int flags, uint64_t *length);

/* The size of the header of a frame with `length` bytes of payload. */
size_t header_size(size_t length, int masked);

/* Write a frame: a header of `header_size` bytes and the payload (section 5.2). `key`: 4 bytes, or NULL. */
void write_frame(uint8_t *out, int first, const uint8_t *payload, size_t length, const uint8_t *key);

/* The 4 bytes of a masking key, which live as long as `key`; NULL with an exception. */
const uint8_t *key_bytes(PyObject *key);
