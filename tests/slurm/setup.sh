#!/usr/bin/env bash
# Makes a Debian machine a Slurm cluster of one node, for test_slurm.py. Run as root; run again after a restart.
# Installs munge and slurm-wlm with apt-get, writes /etc/slurm/slurm.conf, and starts munged, slurmctld and slurmd where
# they are not running. A machine that belongs to a cluster already is left alone.
set -euo pipefail

conf=/etc/slurm/slurm.conf
mark="# written by ctnet's tests/slurm/setup.sh"
if [ -e "$conf" ] && ! grep -qxF "$mark" "$conf"; then
    echo "setup.sh: $conf is of another cluster; nothing was changed" >&2
    exit 2
fi

if ! command -v munged slurmctld slurmd > /dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends munge slurm-wlm > /dev/null
fi

node=$(hostname -s)
mkdir -p /etc/slurm /var/spool/slurmctld /var/spool/slurmd /var/log/slurm
cat > "$conf" << END
$mark
ClusterName=ctnet
SlurmctldHost=$node(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=cred_expire=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
StateSaveLocation=/var/spool/slurmctld
SlurmdSpoolDir=/var/spool/slurmd
SlurmctldLogFile=/var/log/slurm/slurmctld.log
SlurmdLogFile=/var/log/slurm/slurmd.log
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
NodeName=$node NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
END

[ -e /etc/munge/munge.key ] || mungekey --create
install -d -o munge -g munge /run/munge
pgrep -x munged > /dev/null || runuser -u munge -- munged
pgrep -x slurmctld > /dev/null || slurmctld
pgrep -x slurmd > /dev/null || slurmd

for _ in $(seq 30); do
    if sinfo --noheader --format %t 2> /dev/null | grep -qE 'idle|mix|alloc'; then
        sinfo
        exit 0
    fi
    sleep 1
done
echo "setup.sh: the node does not come up; see /var/log/slurm" >&2
exit 1
