-- acquire(run, log, wakes, leases; token, ttl) -> {{field, …}, {record, …}} | nil | "corrupt: …"
--
--   run     hash    the head
--   log     list    the records
--   wakes   zset    index of the runs that nobody holds, by wake
--   leases  zset    index of the held runs, by expiry

local token, ttl, now = ARGV[1], tonumber(ARGV[2]), clock()
local head, wrong = read(KEYS[1], 'event', 'snapshot')
if wrong then return 'corrupt: ' .. wrong end
if not head or (head.token ~= '' and head.token ~= token and head.expires > now) then return false end
local log = redis.call('LRANGE', KEYS[2], 0, -1)

local id = id_of(KEYS[1])
local from, before = stand(head, id, KEYS[3], KEYS[4])
local died = head.token ~= '' and head.token ~= token
head.row[5] = whole(head.attempt + (died and 1 or 0))
redis.call('HSET', KEYS[1], 'token', token, 'expires', whole(now + ttl), 'attempt', head.row[5])
move(from, before, KEYS[4], place(head.workflow, now + ttl, id))
return {head.row, log}
