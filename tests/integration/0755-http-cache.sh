#!/bin/bash
# timeout: 300
# An HTTP cache (nginx) between hosts and a real S3 service: what one host has read comes to the next
# from the cache; a cache that fails, is away, or gives wrong bytes changes nothing but the way. And
# a service behind TLS with an authority of its own.
. "${0%/*}/lib.sh"
. "${0%/*}/ceph.sh"
need root fuse curl jq openssl nginx
need_ceph
start_ceph
make_bucket bkt

mkdir -p "$T"/{src,cache,nginx,mnt}
for i in {1..12}; do head -c 400000 /dev/urandom >"$T/src/f$i"; done
export VARVE_TRACE_MS=$((2000 * SLOW))

# --- nginx: a cache, and TLS before the service ---
CACHE_PORT=$(free_port) TLS_PORT=$(free_port)
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -keyout "$T/ca.key" -out "$T/ca.pem" -subj /CN=authority \
	-addext basicConstraints=critical,CA:TRUE >/dev/null 2>&1 &&
	openssl req -newkey rsa:2048 -nodes -keyout "$T/key.pem" -out "$T/csr" -subj /CN=service >/dev/null 2>&1 &&
	openssl x509 -req -in "$T/csr" -CA "$T/ca.pem" -CAkey "$T/ca.key" -CAcreateserial -days 2 -out "$T/cert.pem" \
		-extfile <(echo subjectAltName=IP:127.0.0.1) >/dev/null 2>&1 || bail "no certificates"
configure() { # DIRECTIVES of the cache
	cat >"$T/nginx.conf" <<-END
	daemon off; worker_processes 1; user root; pid $T/nginx/pid; error_log $T/nginx/error.log;
	events { worker_connections 256; }
	http {
		access_log $T/nginx/access.log;
		client_body_temp_path $T/nginx/body; proxy_temp_path $T/nginx/tmp;
		fastcgi_temp_path $T/nginx/1; uwsgi_temp_path $T/nginx/2; scgi_temp_path $T/nginx/3;
		proxy_cache_path $T/cache keys_zone=varve:1m max_size=1g inactive=1d;
		log_format way '\$upstream_cache_status \$uri \$http_range';
		server {
			listen 127.0.0.1:$CACHE_PORT;
			access_log $T/nginx/way.log way;
			location / {
				proxy_pass $S3_ENDPOINT;
				proxy_set_header Host \$http_host;
				slice 1m; # whatever pieces hosts ask for, these are kept
				proxy_set_header Range \$slice_range;
				proxy_cache varve;
				proxy_cache_key "\$uri \$slice_range";
				proxy_cache_lock on;
				proxy_cache_valid 200 206 1d;
				$1
			}
		}
		server {
			listen 127.0.0.1:$TLS_PORT ssl;
			ssl_certificate $T/cert.pem; ssl_certificate_key $T/key.pem;
			client_max_body_size 100m;
			location / { proxy_pass $S3_ENDPOINT; proxy_set_header Host \$http_host; }
		}
	}
	END
}
answers_tcp() { curl -s -o "$T/.curl" --max-time 5 "http://127.0.0.1:$1/" || [ $? = 52 ]; }
nginx_pid=
start_nginx() { # [DIRECTIVES]
	configure "${1:-}"
	nginx -c "$T/nginx.conf" >"$T/nginx.out" 2>&1 &
	nginx_pid=$!
	until_true 20 answers_tcp "$CACHE_PORT" || bail "nginx: $(cat "$T/nginx.out" "$T/nginx/error.log")"
	: >"$T/nginx/way.log"
}
stop_nginx() {
	kill "$nginx_pid" && wait "$nginx_pid"
	nginx_pid=
}
end_all() {
	[ -z "$nginx_pid" ] || stop_nginx
	stop_ceph
}
trap 'end_all; _cleanup' EXIT
start_nginx

# --- a host that pushes, through TLS ---
remote() { # [OPTION...]
	varve remote add main s3://bkt/team --path-style "$@"
}
start_daemon --memory 64M
like 'a service that nobody vouches for is refused' "$(remote --endpoint "https://127.0.0.1:$TLS_PORT" 2>&1)" \
	'certificate'
ok 'with the authority it is a remote' remote --endpoint "https://127.0.0.1:$TLS_PORT" --ca-file "$T/ca.pem"
ok 'a snapshot is pushed through TLS' eval 'varve import base dir "$T/src" && varve push base main'

# --- hosts with nothing, behind the cache ---
hits() { grep -c "^HIT /bkt/team/$1/" "$T/nginx/way.log"; }
asked() { grep -c "/bkt/team/$1/" "$T/nginx/way.log"; }
new_host() {
	stop_daemon
	rm -rf "$STATE"
	start_daemon --memory 64M
	remote --endpoint "$S3_ENDPOINT" --proxy "http://127.0.0.1:$CACHE_PORT" >/dev/null || bail 'no remote'
}
read_all() {
	mount_at main:base "$T/mnt" --read-only && diff -r "$T/src" "$T/mnt" && varve umount --discard "$T/mnt"
}
metric() { api GET /metrics | sed -n "s/^snapshotd_$1 //p"; }
noted() { [ "$(metric prefetch_written_total)" = 1 ]; }
new_host
mount_at main:base "$T/mnt" --read-only
ok 'a host reads through the cache' diff -r "$T/src" "$T/mnt"
ok '... which is asked for packs' test "$(asked pack)" -gt 0
is '... and for nothing that changes' \
	"$(grep /bkt/ "$T/nginx/way.log" | grep -vcE '/bkt/team/(pack|hot)/')" 0
ok 'its first use is noted' until_true 60 noted
varve umount --discard "$T/mnt" >/dev/null
new_host
: >"$T/nginx/way.log"
ok 'a second host reads the same' read_all
ok '... and its hot object through the cache' test "$(asked hot)" -gt 0
new_host
: >"$T/nginx/way.log"
ok 'a third host reads the same' read_all
grep -v '^HIT' "$T/nginx/way.log" | sed 's/^/# /'
got=$(($(hits pack) + $(hits hot)))
# Who is slow asks for more than those before did.
ok '... most of it from the cache' test $((2 * got)) -gt $(($(asked pack) + $(asked hot)))
ok '... which was asked' test "$(hits hot)" -gt 0

# --- a cache that gives wrong bytes ---
poison() { # DIR: some bytes of each of its files, behind what nginx keeps of the headers
	python3 -c '
import os, sys
files = [os.path.join(at, f) for at, _, names in os.walk(sys.argv[1]) for f in names]
for file in files:
    with open(file, "r+b") as f:
        for at in range(2000, os.path.getsize(file), 20000):
            f.seek(at)
            f.write(b"poison")
sys.exit(not files)' "$1"
}
ok 'its files are spoilt' poison "$T/cache"
new_host
: >"$T/nginx/way.log"
ok 'what it says is not believed' read_all
ok '... though it was asked' test "$(hits hot)" -gt 0
ok '... and the hot object comes past it' test "$(metric prefetch_hits_total)" -gt 0
is '... and nothing wrong is kept' "$(varve --json verify | jq .damaged)" 0

# --- a cache that fails, and one that is away ---
stop_nginx
start_nginx 'return 503;'
new_host
ok 'a cache that fails is passed by' read_all
stop_nginx
new_host
ok 'one that is away is passed by' read_all

# --- a host whose clock is wrong (I7) ---
stop_daemon
rm -rf "$STATE"
if start_daemon_at +1d --memory 64M; then
	ok 'a host whose clock is a day ahead has the remote' remote --endpoint "$S3_ENDPOINT"
	ok '... reads' read_all
	varve import clock dir "$T/nginx" >/dev/null
	ok '... pushes' varve push clock main
	ok '... deletes' varve rm main:clock
	is '... and collects nothing before its day has passed' \
		"$(varve --json gc --remote main | jq -c '[.removedPacks, .freedRecords]')" '[0,0]'
	ok '... but then' varve gc --remote main --grace 0
	ok '... what is there is whole' varve verify --remote main --deep
else
	skip 'a host whose clock is a day ahead' 'needs libfaketime'
fi

trap _cleanup EXIT
end_all
done_testing
