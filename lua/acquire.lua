-- acquire(run, log, wakes, leases; token, ttl) -> {lines, snapshot, {record, …}} | nil | "corrupt: …"
--
--   run     hash    the head
--   log     list    the records
--   wakes   zset    index of the runs that nobody holds, by wake
--   leases  zset    index of the held runs, by expiry
--
-- Whoever finds a lease that ran out counts one more dead holder.

local run, token, now, wakes, leases = KEYS[1], ARGV[1], clock(), KEYS[3], KEYS[4]
local head, wrong = read(run)
if wrong then return 'corrupt: ' .. wrong end
local other = head and head.token ~= '' and head.token ~= token
if not head or (other and tonumber(head.expires) > now) then return false end
local snapshot = redis.call('HGET', run, 'snapshot')
wrong = not snapshot and 'its snapshot is missing' or damage(head, KEYS[2])
if wrong then return 'corrupt: ' .. wrong end
local log = redis.call('LRANGE', KEYS[2], 0, -1)

local id = id_of(run)
local from, before = place(head, id, wakes, leases)
if other then head.attempt = head.attempt + 1 end
head.token, head.expires = token, digits(now + ARGV[2])
local lines = lines_of(head)
redis.call('HSET', run, 'head', lines)
move(from, before, place(head, id, wakes, leases))
return {lines, snapshot, log}
