# Static programs, built where the tests are: their runtimes ask for threads and signals without a C library.
/parallel-go || exit 1
/parallel-rust || exit 1
