// How long to wait before the next attempt to connect.

const BACKOFF_MS = [500, 1000, 2000, 4000, 8000];

/** Return the milliseconds after `attempt` failures, of which the first is 0. */
export const backoff = (attempt) => BACKOFF_MS[Math.min(attempt, BACKOFF_MS.length - 1)];
