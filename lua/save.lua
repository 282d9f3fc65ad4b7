-- save(run, log, wakes, leases, births; facts, snapshot, record, …)
--     -> how many stored records the writer has not seen | "conflict: …" | "corrupt: …"
--
--   run     hash    the head
--   log     list    the records
--   wakes   zset    index of the runs that nobody holds, by wake
--   leases  zset    index of the held runs, by expiry
--   births  zset    index of all runs, by birth

return (save(KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], ARGV, 1, clock()))
