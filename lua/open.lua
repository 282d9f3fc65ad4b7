-- open(schema, wakes, leases, births; version) -> the version of what is stored
--
--   schema                 string    that version, written by the first store opened here
--   wakes, leases, births  zset      the indexes, looked at so that a foreign key in their place is found now

for at = 2, 4 do redis.call('ZCARD', KEYS[at]) end
local stored = redis.call('GET', KEYS[1])
if stored then return stored end
redis.call('SET', KEYS[1], ARGV[1])
return ARGV[1]
