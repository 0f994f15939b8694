/* version.h - this release's version. */
#ifndef VARVE_BASE_VERSION_H
#define VARVE_BASE_VERSION_H

#ifndef VARVE_VERSION
#define VARVE_VERSION "0.1.0"
#endif

/* " (COMMIT)", in main files alone, where the build knows it. */
#ifndef VARVE_COMMIT
#define VARVE_COMMIT ""
#endif

#endif
