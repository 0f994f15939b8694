/* version.h - the release that this is. */
#ifndef VARVE_TOOLS_VERSION_H
#define VARVE_TOOLS_VERSION_H

#ifndef VARVE_VERSION
#define VARVE_VERSION "0.1.0"
#endif

#endif
