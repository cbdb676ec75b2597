/* Two threads race for a counter. Run before everything else: where this passes unseen,
 * ThreadSanitizer does not work, and its silence about Plane says nothing. */
#include <pthread.h>
#include <stddef.h>

static int counter;

static void *count(void *unused)
{
	(void)unused;
	counter++;
	return NULL;
}

int main(void)
{
	pthread_t threads[2];

	for (int i = 0; i < 2; i++)
		if (pthread_create(&threads[i], NULL, count, NULL) != 0)
			return 2;
	for (int i = 0; i < 2; i++)
		if (pthread_join(threads[i], NULL) != 0)
			return 2;
	return 0;
}
