/*
 * The table protocol in another language: leases with fences, tickets and pins, for SPIN. `lock-core/spec/check` runs it.
 *
 * One row, N clients, and callers that each want the lock GENS times. A request is carried out at once; FAULTS times its answer is
 * lost, or it is carried out late, or twice. Clients and transactions go on when they like, so each may pause for any time. All
 * clocks go at the same rate: the model is about order, not about drift. Times count down, so time has no end, and the states
 * are finitely many.
 *
 * Each WITHOUT_... takes away one rule. `check` expects SPIN to find what then breaks.
 */
#ifndef N
#define N 3
#endif
#ifndef GENS
#define GENS 1
#endif
#ifndef FAULTS
#define FAULTS 1
#endif
#ifndef WRITES
#define WRITES 2
#endif
/* Clients that sleep through their grants may take the row from each other for ever. */
#ifndef GRANTS
#define GRANTS 3
#endif
#define TTL 2
#define NOBODY 0
/* A lease that was freed so many graces ago is left to nobody any more: 2^LONG is more than all tickets. */
#define LONG 2

/* -- the rules, each with its opposite ------------------------------------------------------------------------------- */

#ifdef WITHOUT_DEADLINE_FROM_SENDING
#define LEFT TTL                              /* a lease counts from its answer */
#else
#define LEFT (age[c] < TTL -> TTL - age[c] : 0)
#endif

#ifdef WITHOUT_CLAIM_CHECKS_EXPIRY
#define FREE true
#else
#define FREE (owner == NOBODY || expires == 0)
#endif

#ifdef WITHOUT_RENEWAL_CHECKS_OWNER
#define MAY_RENEW(o) true
#else
#define MAY_RENEW(o) (owner == o && expires > 0)
#endif

#ifdef WITHOUT_RELEASE_CHECKS_OWNER
#define MAY_RELEASE(o) true
#else
#define MAY_RELEASE(o) (owner == o)
#endif

#ifdef WITHOUT_FENCE_GROWS
#define NEXT_FENCE fence
#else
#define NEXT_FENCE (fence + 1)
#endif

#ifdef WITHOUT_PIN_HOLDS_THE_ROW
#define PINNED false
#else
#define PINNED (pins > 0)
#endif

#ifdef WITHOUT_PIN_CHECKS_FENCE
#define MAY_PIN true
#else
#define MAY_PIN (fence == told_fence[c])
#endif

#ifdef WITHOUT_UNKNOWN_IS_RELEASED
#define UNKNOWN 0                             /* a claim without an answer is taken for a denial */
#else
#define UNKNOWN 1
#endif

#define AHEAD(k) ((k > 0 && k <= queue -> k : queue + 1) > served + 1 -> (k > 0 && k <= queue -> k : queue + 1) - served - 1 : 0)
#ifdef WITHOUT_TICKET_ORDER
#define IS_TURN(k) true
#else
#ifdef WITHOUT_GRACE_FOR_THE_DEAD
#define IS_TURN(k) (AHEAD(k) == 0)
#else
#define IS_TURN(k) (AHEAD(k) < (1 << freed))
#endif
#endif

/* -- the row --------------------------------------------------------------------------------------------------------- */

byte owner = NOBODY, fence, expires, queue, served;
byte freed = LONG;                            /* for how many graces it has been free; a grace is a step of time */
byte pins;                                    /* transactions that have it pinned */

/* -- the clients ----------------------------------------------------------------------------------------------------- */

mtype = { idle, want, held, freeing, over };
mtype = { none, claim, renew, release };
mtype = { granted, busy, delayed, done, not_owner };

mtype phase[N] = idle;
byte gen[N];                                  /* its attempt */
byte left[N];                                 /* until its own deadline */
byte told_fence[N], ticket[N];
bit sleeps[N];                                /* until the next step of time, or a notification */
bit denied[N];
bit unsure[N];                                /* a claim of its had no answer */
mtype req[N] = none;                          /* its request */
byte age[N];                                  /* since that was sent */
mtype ans[N] = none;                          /* the answer on its way back */
byte ans_fence[N], ans_ticket[N];
mtype late[N] = none;                         /* a request that it has given up, or a copy */
byte late_owner[N], late_ticket[N];
bit excused[N];                               /* what was carried out late took the row for it: only the lease ends that */
byte pinned[N];                               /* its transaction, by the fence */

byte faults = FAULTS, writes = WRITES;
byte written;                                 /* the fence of the last write that was committed */
hidden byte i;
mtype res = none;
byte res_ticket;

#define OWNER(c) (1 + c + N * gen[c])
#define HOLDS(c) (phase[c] == held && left[c] > 0)

/* -- the server ------------------------------------------------------------------------------------------------------- */

/* Whether nobody that waits, with an earlier ticket than k, has been passed over before its grace was over. */
inline check_turn(k) {
  i = 0;
  do
  :: i < N ->
     assert(!(phase[i] == want && OWNER(i) != owner && ticket[i] > served && (k == 0 || ticket[i] < k)) || freed > 0);
     i++
  :: else -> break
  od;
  i = 0
}

inline wake_next() {
  i = 0;
  do
  :: i < N -> if :: ticket[i] == served + 1 -> sleeps[i] = 0 :: else fi; i++
  :: else -> break
  od;
  i = 0
}

inline draw(k) {
  if
  :: k > served && k <= queue -> res_ticket = k
  :: else -> queue = (queue > served -> queue : served) + 1; res_ticket = queue
  fi
}

inline grant(o, k) {
  assert(NEXT_FENCE > fence);                 /* fences rise in the order of grants */
  fence = NEXT_FENCE; owner = o; expires = TTL;
  check_turn(k);
  if :: k > served && k <= queue -> served = k :: else fi;
  freed = 0; res = granted
}

inline apply(what, o, k) {
  res_ticket = 0;
  if
  :: what == claim ->
     if
     :: owner == o -> expires = TTL; res = granted
     :: owner != o && FREE && PINNED -> res = delayed
     :: owner != o && FREE && !PINNED && IS_TURN(k) -> grant(o, k)
     :: else ->
        assert(!(FREE && !PINNED && freed == LONG));    /* the dead are given up */
        draw(k); res = busy
     fi
  :: what == renew ->
     if
     :: MAY_RENEW(o) -> assert(owner == o && expires > 0); expires = TTL; res = done
     :: else -> res = not_owner
     fi
  :: what == release ->
     if
     :: MAY_RELEASE(o) -> assert(owner == o); owner = NOBODY; expires = 0; freed = 0; res = done; wake_next()
     :: else -> res = not_owner
     fi
  fi
}

/* -- a client, and its part of the network ---------------------------------------------------------------------------- */

/* A request leaves, and is carried out: late is what comes of those that are not. */
inline send(what) {
  req[c] = what; age[c] = 0;
  apply(what, OWNER(c), ticket[c]);
  ans[c] = res; ans_fence[c] = (res == granted -> fence : 0); ans_ticket[c] = res_ticket;
  res = none; res_ticket = 0
}

#define ASKS ((phase[c] == want && !sleeps[c] && fence < GRANTS || phase[c] == held && left[c] == 1 || phase[c] == freeing) && req[c] == none)
#define QUESTION (phase[c] == want -> claim : (phase[c] == held -> renew : release))

inline forget_request() { req[c] = none; age[c] = 0; ans[c] = none; ans_fence[c] = 0; ans_ticket[c] = 0 }

/* At any moment, one holds it by its own deadline. */
inline check_alone() {
  i = 0;
  do
  :: i < N -> assert(i == c || !HOLDS(i)); i++
  :: else -> break
  od;
  i = 0
}

/* What its caller gave up or released is not left behind. */
#define LEAVES_NOTHING (owner != OWNER(c) || excused[c])

inline end_attempt() {
  excused[c] = 0;
  phase[c] = over; left[c] = 0; told_fence[c] = 0; ticket[c] = 0; sleeps[c] = 0; denied[c] = 0; unsure[c] = 0
}

inline deliver() {
  if
  :: phase[c] == want && ans[c] == granted && LEFT > 0 ->
     left[c] = LEFT; phase[c] = held; told_fence[c] = ans_fence[c]; ticket[c] = 0; denied[c] = 0; unsure[c] = 0;
     check_alone()
  :: phase[c] == want && ans[c] == granted && LEFT == 0 -> unsure[c] = UNKNOWN   /* too late: it claims again */
  :: phase[c] == want && ans[c] == busy -> ticket[c] = ans_ticket[c]; sleeps[c] = 1; denied[c] = 1
  :: phase[c] == want && ans[c] == delayed -> sleeps[c] = 1; denied[c] = 1
  :: phase[c] == held && ans[c] == done && left[c] > 0 ->
     left[c] = (LEFT > left[c] -> LEFT : left[c]);
     check_alone()
  :: phase[c] == held && (ans[c] == not_owner || left[c] == 0) -> end_attempt()
  :: phase[c] == freeing -> assert(LEAVES_NOTHING); end_attempt()
  fi;
  forget_request()
}

/* There is no answer in time: it may have been carried out, or will be, or never. */
inline no_answer() {
  if
  :: req[c] == claim -> unsure[c] = UNKNOWN; denied[c] = 1; sleeps[c] = 1
  :: else
  fi;
  forget_request()
}

inline copy_request() {
  late[c] = req[c]; late_owner[c] = OWNER(c); late_ticket[c] = (req[c] == claim -> ticket[c] : 0)
}

inline forget_copy() { late[c] = none; late_owner[c] = 0; late_ticket[c] = 0 }

proctype Client(byte c) {
  do
  :: d_step { phase[c] == idle -> phase[c] = want }
  :: d_step { ASKS -> send(QUESTION) }
  /* Its caller gives up, or releases. */
  :: d_step { phase[c] == want && req[c] == none && (denied[c] || fence >= GRANTS) ->
       if
       :: unsure[c] -> phase[c] = freeing; ticket[c] = 0; sleeps[c] = 0; denied[c] = 0
       :: else -> assert(LEAVES_NOTHING); end_attempt()
       fi }
  :: d_step { phase[c] == held && req[c] == none && left[c] > 0 -> phase[c] = freeing; left[c] = 0 }
  :: d_step { phase[c] == held && req[c] == none && left[c] == 0 -> end_attempt() }
  /* The network. */
  :: d_step { ans[c] != none -> deliver() }
  :: d_step { ans[c] != none && age[c] > 0 && faults > 0 -> faults--; no_answer() }
  :: d_step { ASKS && late[c] == none && faults > 0 ->                  /* it is carried out late, or never */
       faults--; req[c] = QUESTION; copy_request(); no_answer() }
  :: d_step { ans[c] != none && late[c] == none && faults > 0 -> faults--; copy_request() }     /* twice */
  :: d_step { late[c] != none -> forget_copy() }
  :: d_step { late[c] != none ->
       apply(late[c], late_owner[c], late_ticket[c]);
       if :: res == granted && late_owner[c] == OWNER(c) -> excused[c] = 1 :: else fi;
       res = none; res_ticket = 0;
       forget_copy() }
  /* A transaction of its user pins the row, however late, writes, and commits. */
  :: d_step { phase[c] == held && writes > 0 && pinned[c] == 0 && MAY_PIN ->
       writes--; pinned[c] = told_fence[c]; pins++ }
  :: d_step { pinned[c] > 0 -> assert(pinned[c] >= written); written = pinned[c]; pinned[c] = 0; pins-- }
  :: d_step { phase[c] == over && gen[c] + 1 < GENS && late[c] == none -> gen[c]++; phase[c] = idle }
  :: phase[c] == over && gen[c] + 1 == GENS && late[c] == none && pinned[c] == 0 -> break
  od
}

/* -- time -------------------------------------------------------------------------------------------------------------- */

#define COUNTS(c) (left[c] > 0 || sleeps[c] || (req[c] != none && age[c] < TTL))

active proctype Clock() {
end:
  do
  :: d_step { expires > 0 || freed < LONG || COUNTS(0) || COUNTS(1) || COUNTS(N - 1) ->
       if
       :: expires > 0 -> expires--
       :: expires == 0 && freed < LONG -> freed++
       :: else
       fi;
       i = 0;
       do
       :: i < N ->
          if :: left[i] > 0 -> left[i]-- :: else fi;
          if :: req[i] != none && age[i] < TTL -> age[i]++ :: else fi;
          sleeps[i] = 0;
          i++
       :: else -> break
       od;
       i = 0 }
  od
}

init { atomic { i = 0; do :: i < N -> run Client(i); i++ :: else -> break od; i = 0 } }
