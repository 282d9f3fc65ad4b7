-- acquire(run, log, wakes, leases; token, ttl) -> {lines, snapshot, {record, …}} | nil | "corrupt: …"
--
--   run     hash    the head
--   log     list    the records
--   wakes   zset    index of the runs that nobody holds, by wake
--   leases  zset    index of the held runs, by expiry

local run, token, now = KEYS[1], ARGV[1], clock()
local head, wrong = read(run)
if wrong then return 'corrupt: ' .. wrong end
if not head or (head.token ~= '' and head.token ~= token and tonumber(head.expires) > now) then return false end
local snapshot = redis.call('HGET', run, 'snapshot')
wrong = not snapshot and 'its snapshot is missing' or damage(head, KEYS[2])
if wrong then return 'corrupt: ' .. wrong end
local log = redis.call('LRANGE', KEYS[2], 0, -1)
return {take(run, head, token, digits(now + ARGV[2]), KEYS[3], KEYS[4]), snapshot, log}
