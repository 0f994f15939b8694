# shellcheck shell=bash
# ceph.sh - for tests that want a real S3 service: one Ceph monitor, one OSD that keeps all in
# memory, one RADOS gateway. After lib.sh:
#
#   . "${0%/*}/ceph.sh"
#   need_ceph        # else the whole test is skipped
#   start_ceph       # sets S3_ENDPOINT and the AWS_ variables; the daemons are jobs of the test
#   make_bucket NAME
#   stop_ceph        # before done_testing

S3_ENDPOINT=
ceph_jobs=()

need_ceph() {
	local c
	for c in ceph ceph-mon ceph-osd radosgw radosgw-admin monmaptool; do
		command -v "$c" >/dev/null ||
			skip_all "needs Ceph (apt-get install ceph-common ceph-mon ceph-osd radosgw)"
	done
	need python3 curl
}
# A TCP port of loopback that nobody has now.
free_port() {
	python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}
# Arguments from here on are of a command that is given SECONDS.
_ceph_run() { # SECONDS COMMAND...
	timeout $(($1 * 3)) "${@:2}" >>"$CEPH/setup.log" 2>&1 </dev/null || {
		tail -n 15 "$CEPH"/*.log | sed 's/^/# /'
		bail "Ceph does not start: ${*:2}"
	}
}
_ceph_daemon() { # NAME COMMAND...
	"${@:2}" --foreground -c "$CEPH/conf" >"$CEPH/$1.out" 2>&1 </dev/null &
	ceph_jobs+=($!)
}
_ceph_until() { # COMMAND...
	local i
	for ((i = 0; i < 600; i++)); do
		"$@" >/dev/null 2>&1 && return
		sleep 0.1
	done
	tail -n 15 "$CEPH"/*.log "$CEPH"/*.out | sed 's/^/# /'
	bail "Ceph does not answer: $*"
}
_ceph_conf() { # MONITOR-PORT
	cat <<-END
	[global]
	fsid = $(cat /proc/sys/kernel/random/uuid)
	mon_host = v2:127.0.0.1:$1
	public_addr = 127.0.0.1
	ms_bind_msgr1 = false
	keyring = $CEPH/keyring
	osd_pool_default_size = 1
	osd_pool_default_min_size = 1
	osd_pool_default_pg_num = 2
	osd_pool_default_pg_autoscale_mode = off
	osd_crush_chooseleaf_type = 0
	run_dir = $CEPH
	crash_dir = $CEPH/crash
	admin_socket =
	log_file = $CEPH/\$name.log
	[mon]
	mon_data = $CEPH/mon
	mon_cluster_log_file = $CEPH/cluster.log
	mon_allow_pool_size_one = true
	mon_data_avail_crit = 1
	auth_allow_insecure_global_id_reclaim = false
	[osd]
	osd_data = $CEPH/osd
	osd_objectstore = memstore
	memstore_device_bytes = 3221225472
	osd_crush_initial_weight = 1
	[client.admin]
	rgw_data = $CEPH/rgw
	rgw_frontends = beast endpoint=127.0.0.1:$S3_PORT tcp_nodelay=1
	rgw_dns_name = localhost
	END
}
# curl, signed.
s3_curl() {
	curl -sSf --noproxy '*' --max-time 30 --aws-sigv4 aws:amz:us-east-1:s3 \
		-u "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" -H 'x-amz-content-sha256: UNSIGNED-PAYLOAD' "$@"
}
make_bucket() { # NAME
	s3_curl -X PUT "$S3_ENDPOINT/$1" || bail "no bucket $1"
}
start_ceph() {
	local port uuid
	CEPH=$T/ceph
	port=$(free_port)
	S3_PORT=$(free_port)
	uuid=$(cat /proc/sys/kernel/random/uuid)
	unset CEPH_CONF CEPH_KEYRING CEPH_ARGS
	mkdir -p "$CEPH"/{mon,osd,rgw,crash}
	_ceph_conf "$port" >"$CEPH/conf"
	_ceph_run 20 monmaptool --create --fsid "$(sed -n 's/^fsid = //p' "$CEPH/conf")" \
		--addv a "[v2:127.0.0.1:$port]" "$CEPH/monmap"
	_ceph_run 20 ceph-authtool "$CEPH/keyring" --create-keyring --gen-key -n mon. --cap mon 'allow *'
	_ceph_run 20 ceph-authtool "$CEPH/keyring" --gen-key -n client.admin --cap mon 'allow *' --cap osd 'allow *'
	_ceph_run 20 ceph-authtool "$CEPH/keyring" --gen-key -n osd.0 --cap mon 'allow profile osd' --cap osd 'allow *'
	_ceph_run 30 ceph-mon -c "$CEPH/conf" --mkfs -i a --monmap "$CEPH/monmap" --keyring "$CEPH/keyring"
	_ceph_daemon mon ceph-mon -i a
	_ceph_run 30 ceph-osd -c "$CEPH/conf" -i 0 --mkfs --osd-uuid "$uuid" --no-mon-config
	_ceph_run 60 ceph -c "$CEPH/conf" osd new "$uuid"
	_ceph_daemon osd ceph-osd -i 0
	export AWS_ACCESS_KEY_ID=tester AWS_SECRET_ACCESS_KEY=test+secret/of=40 AWS_REGION=us-east-1
	# It waits for the OSD, and makes the pools.
	_ceph_run 120 radosgw-admin -c "$CEPH/conf" user create --uid=tester --display-name=tester \
		--access-key="$AWS_ACCESS_KEY_ID" --secret-key="$AWS_SECRET_ACCESS_KEY"
	_ceph_daemon rgw radosgw -n client.admin
	# shellcheck disable=SC2034
	S3_ENDPOINT=http://127.0.0.1:$S3_PORT
	_ceph_until s3_curl "$S3_ENDPOINT/"
}
stop_ceph() {
	local i
	for ((i = ${#ceph_jobs[@]} - 1; i >= 0; i--)); do
		kill -9 "${ceph_jobs[i]}" 2>/dev/null
		wait "${ceph_jobs[i]}" 2>/dev/null
	done
	ceph_jobs=()
}
