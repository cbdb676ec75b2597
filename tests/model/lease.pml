/* The lease of a drone, as it is taken, renewed, broken by silence, and what it permits: checked by
 * Spin for the one promise of Plane, that no two backends of one key can act on a valid lease.
 * `make model` runs it (tools/run-model.sh says which runs there are and what each must find).
 *
 * Modelled: two drones, one or two controllers over one store, one key. Whole units of time, any
 * number of events between two of them. Each clock may be wrong by DRIFT units in the life of a
 * lease: drones' are slow and controllers' are fast, which is the bad direction. Messages are lost,
 * late for any time, doubled and reordered: each stays in the network until it is overwritten or
 * the choice falls on losing it, and orders, refusals and reports of ends are never even lost: they
 * may arrive again at any later time. Any process stands still for any time (the scheduler does not
 * choose it), which is a drone that is paused, a slow store, a partition. A drone's process that
 * dies and comes back with its journal has lost nothing that this model knows, so that its death is
 * a pause; with another journal (or as a second process of the name) it knows nothing at all.
 * Controllers restart and forget what they have watched. A backend starts a while after the drone
 * has decided so; it ends by itself, by an order, or by its shim at the hard deadline of its own
 * epoch's lease file, in the unit of time in which that passes. A suspended machine is covered as a
 * paused drone: what is counted is whether the lease is valid by the drone's clock, which runs on.
 *
 * Not modelled: how long anything takes below one unit (what the shim needs to kill belongs to the
 * margin), the soft deadline, leases of the original protocol, a store that forgets what it has
 * committed, the drone's journal written but not durable, more than one key (keys do not meet).
 *
 * The constants are small, and their ratio is what counts. EXPIRE - HARD is the margin. It must
 * cover both drifts: HARD + DRIFT units of real time may pass until a drone stops, and after as few
 * as EXPIRE - DRIFT a controller breaks the lease. */

#ifndef HARD
#define HARD 1 /* units by the drone's clock from sending a request until it stops */
#endif
#ifndef EXPIRE
#define EXPIRE 3 /* units of silence by a controller's clock until it breaks the epoch */
#endif
#ifndef DRIFT
#define DRIFT 1 /* so many units a clock may be wrong in the life of a lease */
#endif
#define REAL_HARD (HARD + DRIFT)
#define REAL_EXPIRE (EXPIRE - DRIFT)
#ifndef CONTROLLERS
#define CONTROLLERS 1
#endif
#ifndef EPOCHS
#define EPOCHS 2 /* of one drone: after that it gets no other */
#endif
#ifndef TOKENS
#define TOKENS 2 /* so often the key is given to a backend; at most 3 */
#endif
#define DRONES 2
#ifndef ANSWERS
#define ANSWERS 1 /* in the network, for one drone: 2 can overtake each other */
#endif
#ifndef JOURNAL_LOSSES
#define JOURNAL_LOSSES 1 /* of drone 0 */
#endif
#ifndef LEASES
#define LEASES 2 /* drones whose lease is modelled; another's is always valid */
#endif
#ifndef TERMINATIONS
#define TERMINATIONS 1 /* backends are ordered to end */
#endif
#ifndef REFUSALS
#define REFUSALS 1 /* a drone may refuse to start one, which goes to the other then */
#endif
#ifndef LIVENESS
#define LIVENESS 0 /* drone 0 may die for good, and then messages are not doubled for ever */
#endif
#ifndef SLOW_READING
#define SLOW_READING 0 /* time passes between a controller's question and the store's answer */
#endif

/* The variants that are wrong, each of which the check must find. */
#ifndef NEVER_BREAK
#define NEVER_BREAK 0 /* controllers leave the key with who has it */
#endif
#ifndef SHARED_LEASE_FILE
#define SHARED_LEASE_FILE 0 /* a start of an old epoch runs on the lease of the new one */
#endif
#ifndef STAMP_BEFORE_READING
#define STAMP_BEFORE_READING 0 /* silence is counted from before the store was asked */
#endif
#ifndef FORGET_REFUSALS
#define FORGET_REFUSALS 0 /* a drone that has refused an order takes it when it comes again */
#endif
#ifndef COUNT_FROM_ANSWER
#define COUNT_FROM_ANSWER 0 /* deadlines count from the arrival of the answer */
#endif
#ifndef ANY_EPOCH
#define ANY_EPOCH 0 /* an order of an epoch that is over is taken under the new one */
#endif
#ifndef GIVE_NEW_EPOCH
#define GIVE_NEW_EPOCH 0 /* who asks for an epoch gets one, though another one is held */
#endif

/* ---- the store ---- */

byte store_epoch[DRONES] = 1;
byte holder[DRONES]; /* the journal that has been granted the epoch; 0: none */
byte key_token;          /* the fencing token of the backend that has the key; 0: none */
byte key_drone, key_epoch;
byte last_token;
/* what was ever ordered and reported, by fencing token; copies of it arrive at any time */
typedef Spawns { bool spawn[TOKENS + 1] }
Spawns ordered[DRONES];
byte epoch_of[TOKENS + 1]; /* under which the (last) order to start it was given */
bool is_ending[TOKENS + 1], is_refused[TOKENS + 1], is_moved[TOKENS + 1];

/* ---- the network ---- */

typedef Request { bool is_there; byte epoch, age, journal } /* epoch 0: asks for one */
typedef Answer { bool is_there, is_granted; byte epoch, age }
typedef Answers { Answer at[ANSWERS] }
Request request[DRONES];
Answers answers[DRONES];

/* ---- the drones ---- */

typedef Drone {
	byte epoch, known_epoch;  /* in its journal: held now, or 0; the greatest ever held */
	byte left[EPOCHS + 1];    /* until the hard deadline in the lease file of each epoch */
	bool is_known[TOKENS + 1]; /* in its journal: it was started, ended or refused here */
	bool is_starting[TOKENS + 1], is_running[TOKENS + 1];
	bool has_ended[TOKENS + 1]; /* it has reported so */
	byte epoch_of[TOKENS + 1] /* under which it starts or runs */
}
Drone drone[DRONES];
byte journals_lost;
#define JOURNAL(d) (d == 0 -> 1 + journals_lost : 1)
bool is_dead; /* drone 0, in the runs that ask whether its key becomes free */

/* ---- the controllers' watch ---- */

typedef Watch {
	bool is_changed[DRONES]; /* the row is no longer the one that was read last */
	bool was_changed[DRONES]; /* what the reading under way has found */
	byte silence[DRONES];    /* by its clock, since it has seen the row of now first */
	byte reading;            /* since the reading began */
	bool is_reading
}
Watch watch[CONTROLLERS];

/* What no longer matters is set to 0, here and below, so that fewer states differ. */
inline row_changed(d)
{
	watch[0].is_changed[d] = true;
	watch[0].silence[d] = 0;
	watch[CONTROLLERS - 1].is_changed[d] = true;
	watch[CONTROLLERS - 1].silence[d] = 0
}

inline end_here(d, t) /* and report it */
{
	drone[d].is_starting[t] = false;
	drone[d].is_running[t] = false;
	drone[d].epoch_of[t] = 0;
	drone[d].has_ended[t] = true
}

#define RUNS(d) /* for up to 3 tokens */ \
	(drone[d].is_running[1] || drone[d].is_running[(TOKENS + 1) / 2] || \
		drone[d].is_running[TOKENS])
#define KEY_IS_FREE (key_token == 0 || key_epoch != store_epoch[key_drone])

/* ---- time ---- */

#define ANSWER answers[d].at[i]

inline drone_unit(d)
{
	for (e : 1 .. EPOCHS) {
		if
		:: drone[d].left[e] > 0 ->
			drone[d].left[e]--;
			if
			:: drone[d].left[e] == 0 -> /* the shims kill what is of this epoch */
				for (t : 1 .. TOKENS) {
					if
					:: drone[d].is_running[t] && drone[d].epoch_of[t] == e ->
						end_here(d, t)
					:: else
					fi
				}
			:: else
			fi
		:: else
		fi
	}
	if
	:: request[d].is_there && request[d].age < REAL_HARD -> request[d].age++
	:: else
	fi;
	for (i : 0 .. ANSWERS - 1) {
		if
		:: ANSWER.is_granted ->
			ANSWER.age++;
			if
			:: ANSWER.age == REAL_HARD -> clear_answer(d, i) /* of no use now */
			:: else
			fi
		:: else
		fi
	}
}

inline clear_answer(d, i)
{
	ANSWER.is_there = false;
	ANSWER.is_granted = false;
	ANSWER.epoch = 0;
	ANSWER.age = 0
}

inline controller_unit(c)
{
	for (d : 0 .. DRONES - 1) {
		if
		:: watch[c].silence[d] < REAL_EXPIRE && !watch[c].is_changed[d] && holder[d] != 0 &&
			d < LEASES -> watch[c].silence[d]++
		:: else
		fi
	}
#if STAMP_BEFORE_READING
	if
	:: watch[c].is_reading && watch[c].reading < REAL_EXPIRE -> watch[c].reading++
	:: else
	fi
#endif
}

proctype Clock()
{
	byte d, c, e, t, i;
	do
	:: d_step {
		for (c : 0 .. CONTROLLERS - 1) {
			controller_unit(c)
		}
		for (d : 0 .. LEASES - 1) {
			drone_unit(d)
		}
		d = 0; c = 0; e = 0; t = 0; i = 0
	}
	od
}

/* ---- drones ---- */

inline ask(d) /* what was in the network may go on or be lost: it is overwritten */
{
	request[d].is_there = true;
	request[d].journal = JOURNAL(d);
	request[d].epoch = drone[d].epoch;
	request[d].age = 0
}

inline take_answer(d, i)
{
	if
	:: ANSWER.is_granted && (ANSWER.epoch == drone[d].epoch ||
			drone[d].epoch == 0 && ANSWER.epoch > drone[d].known_epoch) ->
		drone[d].epoch = ANSWER.epoch;
		drone[d].known_epoch = ANSWER.epoch;
#if COUNT_FROM_ANSWER
		left = REAL_HARD;
#else
		left = REAL_HARD - ANSWER.age;
#endif
		if
		:: left > drone[d].left[ANSWER.epoch] -> drone[d].left[ANSWER.epoch] = left
		:: else
		fi;
		left = 0
	:: !ANSWER.is_granted && ANSWER.epoch == drone[d].epoch -> /* broken: all is killed */
		drone[d].epoch = 0;
		for (t : 1 .. TOKENS) {
			if
			:: drone[d].is_running[t] ->
				end_here(d, t)
			:: else
			fi
		}
	:: else
	fi
}

/* Takes the order to start a backend, or refuses it for want of room. */
#define MAY_TAKE(d, t) \
	(ordered[d].spawn[t] && !drone[d].is_known[t] && \
		(ANY_EPOCH || epoch_of[t] == drone[d].epoch) && drone[d].epoch != 0 && \
		drone[d].left[drone[d].epoch] > 0)

#if SHARED_LEASE_FILE
#define LEFT_AT_START(d, t) (drone[d].epoch == 0 -> 0 : drone[d].left[drone[d].epoch])
#else
#define LEFT_AT_START(d, t) (drone[d].left[drone[d].epoch_of[t]])
#endif

inline start(d, t)
{
	drone[d].is_starting[t] = false;
	if
	:: LEFT_AT_START(d, t) > 0 ->
#if SHARED_LEASE_FILE
		drone[d].epoch_of[t] = drone[d].epoch;
#endif
		printf("backend %d starts on drone %d\n", t, d);
		assert(!RUNS(0) && !RUNS(1)); /* never two that can act on a valid lease */
		drone[d].is_running[t] = true
	:: else -> end_here(d, t) /* the shim kills it at once */
	fi
}

inline stop(d, t)
{
	end_here(d, t);
	drone[d].is_known[t] = true
}

inline lose_journal(d)
{
	journals_lost++;
	drone[d].epoch = 0;
	drone[d].known_epoch = 0;
	for (t : 1 .. TOKENS) {
		drone[d].is_known[t] = false
	}
	for (i : 0 .. ANSWERS - 1) {
		clear_answer(d, i) /* they were for the connection that is gone */
	}
}

proctype DroneLease(byte d)
{
	byte t, i;
	do
	:: d_step { ask(d) }
	:: LIVENESS && d == 0 -> is_dead = true; break
	:: d_step { d == 0 && journals_lost < JOURNAL_LOSSES -> lose_journal(d); t = 0; i = 0 }
	od
}

proctype DroneAnswer(byte d; byte i)
{
	byte t, left;
	do
	:: d_step { ANSWER.is_there -> take_answer(d, i); clear_answer(d, i); t = 0 }
	:: d_step { !LIVENESS && ANSWER.is_there -> take_answer(d, i); t = 0 } /* comes again */
	od
}

proctype DroneBackend(byte d; byte t)
{
	do
	:: d_step { MAY_TAKE(d, t) ->
		drone[d].is_known[t] = true;
		drone[d].is_starting[t] = true;
		drone[d].epoch_of[t] = (ANY_EPOCH -> drone[d].epoch : epoch_of[t])
	}
#if REFUSALS
	:: d_step { MAY_TAKE(d, t) -> /* but there is no room */
		drone[d].is_known[t] = !FORGET_REFUSALS;
		is_refused[t] = true
	}
#endif
	:: d_step { drone[d].is_starting[t] -> start(d, t) }
	:: d_step { drone[d].is_running[t] -> stop(d, t) } /* by itself, or ordered */
	:: d_step { is_ending[t] && ordered[d].spawn[t] && !drone[d].is_running[t] &&
			(!drone[d].is_known[t] || drone[d].is_starting[t]) -> stop(d, t) }
	od
}

/* ---- controllers ---- */

inline answer(d, i, granted, of_epoch, of_age)
{
	ANSWER.is_there = true;
	ANSWER.is_granted = granted;
	ANSWER.epoch = of_epoch;
	ANSWER.age = (granted -> of_age : 0)
}

/* One transaction of the store: one that is held by this journal is renewed, also when the journal
 * asks for one, not knowing of it. */
inline take_request(d)
{
	if
	:: request[d].epoch == 0 && GIVE_NEW_EPOCH && holder[d] != 0 &&
			store_epoch[d] < EPOCHS ->
		store_epoch[d]++
	:: else
	fi;
	is_granted = (request[d].epoch == 0 && (holder[d] == 0 || GIVE_NEW_EPOCH) &&
			store_epoch[d] <= EPOCHS) ||
		(holder[d] == request[d].journal &&
			(request[d].epoch == 0 || request[d].epoch == store_epoch[d]));
	epoch = (is_granted -> store_epoch[d] : request[d].epoch);
	if
	:: is_granted ->
		holder[d] = request[d].journal;
		row_changed(d)
	:: else
	fi
}

/* Not to a connection that is gone, and not when the answer would be of no use. */
#define IS_ANSWERED (epoch != 0 && request[d].journal == JOURNAL(d) && \
	!(is_granted && request[d].age >= REAL_HARD))

inline clear_request(d)
{
	request[d].is_there = false;
	request[d].journal = 0;
	request[d].epoch = 0;
	request[d].age = 0
}

/* A new backend for the key, on any drone that holds a lease as far as the store knows. */
inline connect(d)
{
	if
	:: key_token != 0 -> free_key()
	:: else
	fi;
	last_token++;
	assert(last_token > 0 && key_token < last_token); /* fencing tokens grow */
	key_token = last_token;
	key_drone = d;
	key_epoch = store_epoch[d];
	epoch_of[last_token] = store_epoch[d];
	ordered[d].spawn[last_token] = true
}

inline free_key()
{
	is_refused[key_token] = false;
	key_token = 0;
	key_drone = 0;
	key_epoch = 0
}

inline move_refused(t) /* to the other drone, once */
{
	is_moved[t] = true;
	key_drone = 1 - key_drone;
	key_epoch = store_epoch[key_drone];
	epoch_of[t] = key_epoch;
	ordered[1 - key_drone].spawn[t] = FORGET_REFUSALS;
	ordered[key_drone].spawn[t] = true
}

/* Any controller: what follows keeps nothing between two steps. */
proctype Requests(byte d)
{
	byte epoch;
	bool is_granted;
	do
	:: atomic {
		request[d].is_there -> take_request(d);
		if /* an answer may overwrite another one, or be lost */
		:: IS_ANSWERED ->
			answer(d, 0, is_granted, epoch, request[d].age)
#if ANSWERS > 1
		:: IS_ANSWERED ->
			answer(d, 1, is_granted, epoch, request[d].age)
#endif
		:: true
		fi;
		if
		:: clear_request(d)
		:: !LIVENESS /* it comes again */
		fi;
		d_step { is_granted = false; epoch = 0 }
	}
	:: d_step { KEY_IS_FREE && holder[d] != 0 && last_token < TOKENS -> connect(d) }
	od
}

proctype Orders()
{
	byte t;
	do
	:: d_step { TERMINATIONS && key_token != 0 && !is_ending[key_token] ->
		is_ending[key_token] = true }
	:: d_step { key_token != 0 && drone[key_drone].has_ended[key_token] -> free_key() }
	:: d_step { key_token != 0 && is_refused[key_token] && !is_moved[key_token] &&
			holder[1 - key_drone] != 0 ->
		t = key_token;
		move_refused(t);
		t = 0
	}
	od
}

/* The rows as they are in the store now. */
inline begin_reading(c)
{
	for (d : 0 .. DRONES - 1) {
		watch[c].was_changed[d] = watch[c].is_changed[d];
		watch[c].is_changed[d] = false
	}
}

inline end_reading(c)
{
	for (d : 0 .. DRONES - 1) {
		if
		:: watch[c].was_changed[d] -> watch[c].silence[d] = watch[c].reading
		:: else
		fi;
		watch[c].was_changed[d] = false
	}
	watch[c].reading = 0;
	watch[c].is_reading = false
}

/* UPDATE ... WHERE epoch and renewals are still those that were seen. */
inline break_if_silent(c, d)
{
	if
	:: !NEVER_BREAK && watch[c].silence[d] >= REAL_EXPIRE && !watch[c].is_changed[d] && holder[d] != 0 ->
		printf("controller %d breaks epoch %d of drone %d\n", c, store_epoch[d], d);
		store_epoch[d]++;
		holder[d] = 0;
		row_changed(d)
	:: else
	fi
}

inline forget_watch(c)
{
	watch[c].is_reading = false;
	watch[c].reading = 0;
	for (d : 0 .. DRONES - 1) {
		watch[c].is_changed[d] = true;
		watch[c].was_changed[d] = false;
		watch[c].silence[d] = 0
	}
}

proctype Watcher(byte c)
{
	byte d;
	d_step { forget_watch(c); d = 0 };
	do
#if STAMP_BEFORE_READING || SLOW_READING
	:: d_step { watch[c].is_reading = STAMP_BEFORE_READING; d = 0 };
	   d_step { begin_reading(c); d = 0 };
	   d_step { end_reading(c); d = 0 }
#else
	:: d_step { begin_reading(c); end_reading(c);
#if LIVENESS
		for (d : 0 .. LEASES - 1) {
			break_if_silent(c, d)
		}
#endif
		d = 0
	}
#endif
#if !LIVENESS
	:: d_step {
		for (d : 0 .. LEASES - 1) {
			break_if_silent(c, d)
		}
		d = 0
	}
#endif
	:: d_step { !is_dead -> forget_watch(c); d = 0 } /* it is restarted */
	od
}

init
{
	byte d, t, i, c;
	atomic {
		for (d : 0 .. DRONES - 1) {
			for (t : 1 .. TOKENS) {
				run DroneBackend(d, t)
			}
			run Requests(d);
			if
			:: d < LEASES ->
				run DroneLease(d);
				for (i : 0 .. ANSWERS - 1) {
					run DroneAnswer(d, i)
				}
			:: else ->
				holder[d] = 1;
				drone[d].epoch = 1;
				drone[d].known_epoch = 1;
				drone[d].left[1] = 1
			fi
		}
		for (c : 0 .. CONTROLLERS - 1) {
			run Watcher(c)
		}
		run Orders();
		run Clock();
		d = 0; t = 0; i = 0; c = 0
	}
}

#if LIVENESS
ltl key_of_a_dead_drone_becomes_free {
	[] (is_dead && !KEY_IS_FREE && key_drone == 0 -> <> (KEY_IS_FREE || key_drone != 0))
}
#endif
