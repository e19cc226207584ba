/* Lives beside hostile programs, and must find every call as it should be. */
#include "fast.h"

int main(void) {
    int file = pattern(6, 4096), zero = open("/dev/zero", O_RDONLY);
    for (int i = 0; i < 6000; i++) round_of_calls(file, 6, zero);
    puts("witness ok");
    return 0;
}
