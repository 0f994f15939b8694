/* log_journal.h - lines of the log for systemd's journal. For daemons; the rest is in log.h. */
#ifndef VARVE_BASE_LOG_JOURNAL_H
#define VARVE_BASE_LOG_JOURNAL_H

/*
 * Where stderr is the journal (JOURNAL_STREAM of systemd.exec(5) names it), lines begin with "<3>"
 * to
 * "<7>", which it takes for their priorities, and not with a time, which it has. Before other
 * threads.
 */
void log_detect_journal(void);

#endif
