# Runs a scenario in namespaces of its own, with the resolv.conf of a pod: enter.sh SCENARIO.py. All that it starts ends with it.
set -eu
if [ "${1:-}" != inside ]; then
  own='unshare --net --mount --pid --fork --kill-child --mount-proc'
  $own true 2>/dev/null || own="$own --user --map-root-user"
  exec $own bash "$0" inside "$1"
fi
PATH="$PATH:/usr/sbin:/sbin"
mount --make-rprivate /
ip link set lo up
for address in 10.96.0.10 10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.4; do ip address add $address/32 dev lo; done
cat > resolv.conf <<'END'
search default.svc.cluster.local svc.cluster.local cluster.local corp.internal
nameserver 10.96.0.10
options ndots:5
END
echo '127.0.0.1 localhost' > hosts
echo 'hosts: files dns' > nsswitch.conf
for file in resolv.conf hosts nsswitch.conf; do
  if [ -e /etc/$file ]; then mount --bind $file "$(readlink -f /etc/$file)"; fi
done
exec python3 "$2"
