/* What the two files of the compiled twin share. */

#define PIECE_OVERHEAD 64 /* as in events.py */

#if SIZEOF_SIZE_T < 8
#error "sizes above 32 bits are used throughout: there the codec stays pure"
#endif

extern PyTypeObject Pieces_Type, Next_Type, Messages_Type;
