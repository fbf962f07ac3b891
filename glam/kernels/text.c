/* Kernels of text, for whoever prepares it: no torch, no threads, whole numbers only. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "page_scores.h"
