-- release(run, wakes, leases; token, wake) -> nil | "corrupt: …"
--
--   run     hash    the head
--   wakes   zset    index of the runs that nobody holds, by wake
--   leases  zset    index of the held runs, by expiry
--
-- Due at the wake given, else ('') at its own, else, if it is running, at its last change.

local head, wrong = read(KEYS[1])
if wrong then return 'corrupt: ' .. wrong end
if not head or head.token ~= ARGV[1] then return false end

local id = id_of(KEYS[1])
local from, before = stand(head, id, KEYS[2], KEYS[3])
head.wake = tonumber(ARGV[2]) or head.wake or (head.status == 'running' and head.updated) or nil
head.token = ''
redis.call('HSET', KEYS[1], 'token', '', 'expires', '0', 'wake', head.wake and whole(head.wake) or '')
move(from, before, stand(head, id, KEYS[2], KEYS[3]))
return false
