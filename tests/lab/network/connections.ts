/**
 * Connections to the intrawire addresses of all hosts from where a gateway has to translate them, there and back. Runs `perl` on the hosts.
 */
import { assertEquals } from "@std/assert";
import { hostAddresses } from "../../../lib/address.ts";
import type { Lab, LabHost, Place } from "../lab.ts";
import { waitFor } from "../wait.ts";
import { expectCode } from "../proof.ts";

const ECHO_PORT = 7007;
/** Answers each datagram with the same, until one says "end". */
const ECHO = `use IO::Socket::INET;
my $socket = IO::Socket::INET->new(Proto => "udp", LocalAddr => $ARGV[0], LocalPort => ${ECHO_PORT}) or die "$@";
alarm 60;
do { defined $socket->recv(my $said, 64) or die $!; $socket->send($said); $end = $said eq "end\\n" } until $end;`;

const GREET = 'exec 3<>/dev/tcp/$0/22 && read -r -u 3 line && echo "$line"';
// A datagram is read at once or not at all, which bash does not.
const ASK = `exec 3<>/dev/udp/$0/${ECHO_PORT} && echo "$1" >&3 && head -n 1 <&3`;

/** SSH by TCP and an echo by UDP answer a place from every host's intrawire address. */
export async function assertConnections(lab: Lab, place: Place): Promise<void> {
  await Promise.all(lab.state.hosts.map((host) => assertConnection(lab, place, host)));
}

async function assertConnection(lab: Lab, place: Place, { name, id }: LabHost): Promise<void> {
  const { intrawire } = hostAddresses(id);
  const say = async (script: string, ...words: string[]) =>
    (await place.exec(["timeout", "3", "bash", "-c", script, intrawire, ...words])).stdout.trim();
  assertEquals((await say(GREET)).split("-")[0], "SSH", `${name} by TCP`);
  const echo = lab.exec(name, ["perl", "-e", ECHO, intrawire]);
  await waitFor(`the echo of ${name} by UDP`, async () => await say(ASK, "hello") === "hello");
  assertEquals(await say(ASK, "end"), "end", `${name} by UDP`);
  expectCode(await echo, 0, `the echo on ${name}`);
}
