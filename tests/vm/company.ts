/** Proofs that others may live on the host beside us: the distribution's own Open vSwitch, Docker's rules, AppArmor. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { hostAddresses } from "../../lib/address.ts";
import type { Lab } from "../lab/lab.ts";
import { resolveAt, unreached, waitForAnswers } from "../lab/probes.ts";
import { waitFor } from "../lab/wait.ts";
import { BARE, checkNetwork, MACHINES, onHost, type Proof } from "./stage.ts";

const OWN_SWITCH = BARE;

/** What an admin does who wants the distribution's service, whose units the push masked before it installed the package. */
const START_OWN_SWITCH = `cd /etc/systemd/system
rm -f openvswitch-switch.service ovsdb-server.service ovs-vswitchd.service ovs-record-hostname.service
systemctl daemon-reload
systemctl enable --now openvswitch-switch.service
ovs-vsctl --timeout=60 add-br br-admin`;

/** As Docker leaves it, which also has bridged frames pass the filter. */
const DOCKER = `modprobe br_netfilter
nft -f - <<'EOF'
table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; }
table ip6 filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; }
EOF`;

/** As an admin does who wants a second external address on the host itself. */
const FURTHER_ADDRESS = {
  address: "198.51.100.33",
  add: "ip address replace 198.51.100.33/24 dev veth_ens3; ip link set veth_ens3 up",
  remove: "ip address flush dev veth_ens3; ip link set veth_ens3 down",
};

/** Declares the proofs; those that have to hold after the reboot too are declared by what is returned. */
export function declareCompany(proof: Proof): { readonly afterReboot: () => void } {
  proof(
    "company: Docker's FORWARD policy and bridge filter, and a flushed ruleset, change nothing",
    async (lab) => {
      await onHost(lab, OWN_SWITCH, FURTHER_ADDRESS.add);
      assertEquals(await unreached(lab.deployer, [FURTHER_ADDRESS.address]), []);
      await onHost(lab, OWN_SWITCH, DOCKER);
      await checkNetwork(lab);
      await waitForAnswers("beta's further address", () => lab.deployer, [FURTHER_ADDRESS.address], 60_000);
      await onHost(lab, OWN_SWITCH, "nft flush ruleset");
      await checkNetwork(lab);
      assertEquals(await unreached(lab.deployer, [FURTHER_ADDRESS.address]), []);
      await onHost(lab, OWN_SWITCH, FURTHER_ADDRESS.remove);
    },
  );

  proof("company: AppArmor is enforcing, dnsmasq confined, and denies us nothing", async (lab) => {
    for (const name of MACHINES) {
      assertEquals(await onHost(lab, name, "cat /sys/module/apparmor/parameters/enabled"), "Y", name);
      await onHost(lab, name, ENFORCE_DNSMASQ);
      const gateway = hostAddresses(lab.host(name).id).gateway;
      await waitFor(`names on ${name}`, async () => {
        const found = await resolveAt(lab.network(name), gateway, ["printer.example"]);
        return found["printer.example"] === "10.31.200.1";
      });
      assertEquals(await confinementOf(lab, name), "dnsmasq (enforce)", name);
    }
    await assertNothingDenied(lab);
  });

  proof("company: the distribution's own Open vSwitch runs beside ours", async (lab) => {
    const ours = await onHost(lab, OWN_SWITCH, OUR_SWITCH);
    await onHost(lab, OWN_SWITCH, START_OWN_SWITCH);
    await checkOwnSwitch(lab);
    assertEquals(await onHost(lab, OWN_SWITCH, OUR_SWITCH), ours);
    await checkNetwork(lab);
  });

  return {
    afterReboot: () => {
      proof(
        "company: after the reboot both switches are there, and AppArmor has denied us nothing",
        async (lab) => {
          await checkOwnSwitch(lab);
          for (const name of MACHINES) {
            assertEquals(await confinementOf(lab, name), "dnsmasq (enforce)", name);
          }
          await assertNothingDenied(lab);
        },
      );
    },
  };
}

const OUR_SWITCH =
  "systemctl show -p MainPID mobula-vswitchd.service mobula-ovsdb.service; ovs-vsctl --db=unix:/run/mobula/ovs/db.sock list-ports ovsbr-mobula";

async function checkOwnSwitch(lab: Lab): Promise<void> {
  const said = await onHost(lab, OWN_SWITCH, "ovs-vsctl --timeout=60 list-br; ip -br link show br-admin");
  assertMatch(said, /^br-admin\nbr-admin /);
  assert(!(await onHost(lab, OWN_SWITCH, "ovs-vsctl show")).includes("mobula"), "each has its own database");
}

/** Debian has the profile in complain mode; openSUSE, and an admin who wants it so, has it enforced. */
const ENFORCE_DNSMASQ = `profile=/etc/apparmor.d/usr.sbin.dnsmasq
sed -i -e 's/flags=(complain) //' -e 's/complain,//' $profile
apparmor_parser --replace $profile
systemctl restart mobula-dnsmasq.service`;

async function confinementOf(lab: Lab, name: string): Promise<string> {
  const script = 'cat "/proc/$(systemctl show -p MainPID --value mobula-dnsmasq.service)/attr/current"';
  return (await onHost(lab, name, script)).replace("/usr/sbin/dnsmasq", "dnsmasq");
}

/** The kernel says by itself, or to journald's audit socket, what AppArmor does; where nothing is told, nothing could be denied. */
async function assertNothingDenied(lab: Lab): Promise<void> {
  for (const name of MACHINES) {
    const script = `journalctl -b --no-pager -q _TRANSPORT=kernel + _TRANSPORT=audit | grep -i apparmor`;
    const said = (await onHost(lab, name, script)).split("\n");
    assert(said.some((line) => line.includes('apparmor="STATUS"')), `${name}: ${said.at(-1)}`);
    assertEquals(said.filter((line) => line.includes('apparmor="DENIED"')), [], name);
  }
}
