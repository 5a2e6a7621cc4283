/*
 * Loaded into posternd before its other libraries: clocks that a test sets and lets jump ahead.
 * POSTERN_CLOCKS names a file of two numbers, in seconds: how far CLOCK_REALTIME has been set, and
 * how long the system has been suspended, which CLOCK_REALTIME and CLOCK_BOOTTIME count and
 * CLOCK_MONOTONIC, with all timeouts, does not (clock_gettime(2)). A timer of CLOCK_BOOTTIME that
 * comes due in suspension rings at its end (timerfd_create(2)).
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int boot_timer = -1;
static struct itimerspec boot_wanted;

static void offsets(long *set, long *suspended)
{
	const char *name = getenv("POSTERN_CLOCKS");
	FILE *file = name ? fopen(name, "re") : NULL;

	*set = *suspended = 0;
	if (file) {
		if (fscanf(file, "%ld %ld", set, suspended) != 2)
			*set = *suspended = 0;
		fclose(file);
	}
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
	long set, suspended;
	int done = syscall(SYS_clock_gettime, clock, now);

	if (clock != CLOCK_REALTIME && clock != CLOCK_BOOTTIME)
		return done;
	offsets(&set, &suspended);
	now->tv_sec += suspended + (clock == CLOCK_REALTIME ? set : 0);
	return done;
}

/* The one timer that is set to a time of CLOCK_BOOTTIME, set again by the kernel's clock. */
static int set_boot_timer(void)
{
	struct itimerspec then = boot_wanted;
	long set, suspended;

	offsets(&set, &suspended);
	then.it_value.tv_sec -= suspended;
	if (then.it_value.tv_sec < 0)
		then.it_value.tv_sec = 0;
	if (then.it_value.tv_sec == 0 && then.it_value.tv_nsec == 0)
		then.it_value.tv_nsec = 1;
	return syscall(SYS_timerfd_settime, boot_timer, TFD_TIMER_ABSTIME, &then, NULL);
}

static void *watch(void *unused)
{
	long set, suspended, before = 0;

	(void)unused;
	for (;;) {
		usleep(10000);
		offsets(&set, &suspended);
		pthread_mutex_lock(&lock);
		if (suspended != before && boot_timer >= 0)
			set_boot_timer();
		pthread_mutex_unlock(&lock);
		before = suspended;
	}
	return NULL;
}

int timerfd_settime(int fd, int flags, const struct itimerspec *new, struct itimerspec *old)
{
	static pthread_t watcher;
	int done;

	if (!(flags & TFD_TIMER_ABSTIME))
		return syscall(SYS_timerfd_settime, fd, flags, new, old);
	pthread_mutex_lock(&lock);
	if (boot_timer < 0)
		pthread_create(&watcher, NULL, watch, NULL);
	boot_timer = fd;
	boot_wanted = *new;
	done = set_boot_timer();
	pthread_mutex_unlock(&lock);
	return done;
}
