/* version.h - this release's version. */
#ifndef VARVE_BASE_VERSION_H
#define VARVE_BASE_VERSION_H

#ifndef VARVE_VERSION
#define VARVE_VERSION "0.1.0"
#endif

#endif
