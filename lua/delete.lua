-- delete(run, log, wakes, leases, births;) -> nil
--
--   run     hash    the head
--   log     list    the records
--   wakes   zset    index of the runs that nobody holds, by wake
--   leases  zset    index of the held runs, by expiry
--   births  zset    index of all runs, by birth
--
-- Where the head cannot be read, nor can its index entries be named: whoever meets them drops them.

local head, id = read(KEYS[1]), id_of(KEYS[1])
redis.call('UNLINK', KEYS[1], KEYS[2])
if head then
  move(place(head, id, KEYS[3], KEYS[4]))
  redis.call('ZREM', KEYS[5], head.created .. '\n' .. id)
end
return false
