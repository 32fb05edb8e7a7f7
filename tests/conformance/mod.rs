//! Test material written by others, read in place through `VEDETTE_CORPUS`.
