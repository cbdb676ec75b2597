-- wrk's side of bench/connect.py: connect calls over kept connections.
-- arguments: FIRST KEYS CLUSTER [fixed]
--   KEYS > 0: keys k-<FIRST>..., taken in turn, each call for another user; 0: each call a new key.
--   fixed: the same body each time, so that wrk spends nothing on making it.
-- The last line that it prints is one JSON object.
local first, keys, cluster, number, is_fixed = 0, 1, "", 0, false

local function body()
  number = number + 1
  local key = keys > 0 and first + number % keys or first + number
  return string.format(
    '{"key":{"name":"k-%d"},"user":"user-%d","auth":{"role":"editor"},' ..
    '"spawn_config":{"cluster":"%s","executable":{"image":"echo"}}}', key, number, cluster)
end

function init(arguments)
  first, keys, cluster = tonumber(arguments[1]), tonumber(arguments[2]), arguments[3]
  is_fixed = arguments[4] == "fixed"
  wrk.method, wrk.body = "POST", body()
  wrk.headers["Content-Type"] = "application/json"
  wrk.headers["Host"] = wrk.host .. ":" .. wrk.port
  fixed = wrk.format()
end

function request()
  return is_fixed and fixed or wrk.format(nil, nil, nil, body())
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '{"requests":%d,"duration_us":%d,"p50_ms":%.3f,"p99_ms":%.3f,"refused":%d,"broken":%d}\n',
    summary.requests, summary.duration, latency:percentile(50) / 1000,
    latency:percentile(99) / 1000, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout))
end
