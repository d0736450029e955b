/* What the two files of the compiled twin share. */

#define PIECE_OVERHEAD 64 /* as in events.py */

extern PyTypeObject Pieces_Type, Done_Type, Messages_Type;
