-- delete(run, log, wakes, leases, births;) -> nil
--
--   run     hash    the head
--   log     list    the records
--   wakes   zset    index of the runs that nobody holds, by wake
--   leases  zset    index of the held runs, by expiry
--   births  zset    index of all runs, by birth
--
-- Where the head cannot be read, nor can its index entries be named: whoever meets them drops them.

local head = read(KEYS[1])
redis.call('UNLINK', KEYS[1], KEYS[2])
if head then
  local id = id_of(KEYS[1])
  local index, entry = stand(head, id, KEYS[3], KEYS[4])
  if entry then redis.call('ZREM', index, entry) end
  redis.call('ZREM', KEYS[5], birth(head.created, id))
end
return false
