/**
 * Brings the executable onto a host, whole or not at all. Effects: reads the packed executable, writes the
 * executable's place on the host.
 */
import { HostError } from "../errors.ts";
import { FILE_IDENTITY, HASH_FILE } from "../host/paths.ts";
import { type Executor, HOST_EXECUTABLE } from "./host_call.ts";

/** The executable as it travels. */
export interface Package {
  /** A gzip file on this machine. */
  readonly path: string;
  /** SHA-256 (hex) of the executable itself. */
  readonly hash: string;
}

const WRONG_HASH = 45;
/** Milliseconds that a copy may take: 0.2 Mbit/s. */
const DEADLINE = 30 * 60_000;

/** `$1` = target, `$2` = expected hash. Standard input is the executable, gzipped. */
const RECEIVE = `set -e; umask 022; target=$1; wanted=$2; dir=\${target%/*}
[ -d "$dir" ] || mkdir -p "$dir"
set -- "$dir"/.mobula-new.*
[ ! -e "$1" ] || rm -f "$@"
new="$dir/.mobula-new.$$"
trap 'rm -f "$new"' EXIT
trap 'exit 1' HUP INT TERM PIPE
gzip -dc >"$new"
hash=$(sha256sum "$new")
[ "\${hash%% *}" = "$wanted" ] || exit ${WRONG_HASH}
chmod 755 "$new"
[ ! -e ${HASH_FILE} ] || rm -f ${HASH_FILE}
mv -f "$new" "$target"
trap - EXIT
# For the looks of later pushes and plans in this boot.
{ id=$(stat -c '${FILE_IDENTITY}' "$target") && printf '%s\\n%s\\n' "$id" "$wanted" >${HASH_FILE}; } 2>/dev/null || :`;

/** Sends the package, checks it there and puts it in place by one rename. */
export async function sendExecutable(host: string, ssh: Executor, { path, hash }: Package): Promise<void> {
  const file = await Deno.open(path);
  const argv = ["sh", "-c", RECEIVE, "sh", HOST_EXECUTABLE, hash];
  const { code, stderr } = await ssh.exec(argv, { stdin: file.readable, milliseconds: DEADLINE });
  if (code !== 0) {
    throw new HostError(`${host}: Cannot copy mobula to ${HOST_EXECUTABLE}: ${explain(code, stderr)}`);
  }
}

function explain(code: number, stderr: string): string {
  if (/No space left on device|Disk quota exceeded/i.test(stderr)) {
    return "no space left on the disk; expected room for it in /opt. Nothing was left behind; make room and push again";
  }
  if (/Read-only file system/i.test(stderr)) {
    return "/opt is read-only; expected a place that can be written. Mount it read-write";
  }
  if (code === WRONG_HASH) return "what arrived is not what was sent; expected the same SHA-256. Push again";
  return `ended with ${code}${
    stderr.trim() ? ` (${stderr.trim().split("\n").at(-1)})` : ""
  }; expected success`;
}
