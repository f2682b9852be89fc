/**
 * The shell part of a self-unpacking file. Pure: text out.
 *
 * POSIX sh plus `[ -O`, which dash, bash and busybox have; GNU tools or busybox; neither /dev nor /proc.
 */

/** One file of the payload; each begins where the one before it ends. */
export interface Part {
  readonly name: string;
  /** Length in bytes. */
  readonly size: number;
}

/** What the head has to know about its payload. */
export interface HeadOptions {
  readonly version: string;
  /** Names the directory: hex. */
  readonly hash: string;
  /** In the order of the payload; the first is the Deno binary, the last the program. */
  readonly parts: readonly Part[];
  /** Name of the part that is the C library's loader. */
  readonly loader: string;
}

/** Exit code of a head that cannot unpack or run. */
export const HEAD_FAILURE = 70;

/** Renders the head, which knows its own length because the payload begins behind it. */
export function renderHead(options: HeadOptions): string {
  let head = renderHeadFor(options, 0);
  // The number is part of the text it counts; a second round settles its digits.
  while (head !== renderHeadFor(options, head.length)) head = renderHeadFor(options, head.length);
  return head;
}

function renderHeadFor({ version, hash, parts, loader }: HeadOptions, length: number): string {
  const program = parts.at(-1)!.name;
  const megabytes = Math.ceil(parts.reduce((sum, part) => sum + part.size, 0) / 1e6) + 10;
  return `#!/bin/sh
# mobula ${version} for x86-64 Linux, self-unpacking: this text, then gzip data from byte ${length + 1} on.
# It unpacks once into a directory named by the hash of the data and runs from there; see docs/executable.md.
{
fail() {
  printf 'mobula: %s\\n' "$*" >&2
  exit ${HEAD_FAILURE}
}

# True for a directory of our own in which nobody else can write.
private() {
  [ -d "$1" ] && [ ! -h "$1" ] && [ -O "$1" ] || return 1
  case $(ls -ld "$1") in
    d????-??-*) return 0 ;;
  esac
  return 1
}

# The same for "$dir" and "$base", by one program: it runs at each start.
all_private() {
  [ ! -h "$base" ] && [ -O "$base" ] && [ ! -h "$dir" ] && [ -O "$dir" ] || return 1
  case $(cd "$dir" && ls -ld . ..) in
    d????-??-*"
"d????-??-*) return 0 ;;
  esac
  return 1
}

demand_private() {
  private "$1" || fail "Cannot run from $1: it is a link, somebody else's, or writable by others;" \\
    "expected a directory that only you can write to: remove it, or set MOBULA_UNPACK_DIR"
}

fail_unpacking() {
  fail "Cannot unpack $self into $base: $*; expected a complete file and ${megabytes} MB of free space:" \\
    "copy mobula again, free some space, or set MOBULA_UNPACK_DIR"
}

# cut FROM OFFSET TO: what is behind a part is the next one (programs and libraries do not mind what follows them).
cut() {
  said=$(tail -c +"$2" "$new/$1" 2>&1 >"$new/$3") || fail_unpacking "$said"
}

unpack() {
  for tool in tail gzip ls mkdir chmod mv rm; do
    said=$(command -v "$tool") || fail "Cannot unpack: no $tool here; expected it in $PATH"
  done
  said=$(mkdir -p -m 700 "$base" 2>&1) || fail_unpacking "$said"
  demand_private "$base"
  mask=$(umask)
  umask 077
  new=$base/.new-$$
  trap 'rm -rf "$new"' EXIT
  trap 'exit 130' INT
  trap 'exit 143' HUP TERM
  [ ! -e "$new" ] || rm -rf "$new"
  said=$(mkdir "$new" 2>&1) || fail_unpacking "$said"
  said=$( { tail -c +${length + 1} "$self" | gzip -dc >"$new/${
    parts[0]!.name
  }"; } 2>&1 ) || fail_unpacking "$said"
${renderCuts(parts)}
  # gzip tells of data that ends early, but not of a program that is missing as a whole.
  [ -s "$new/${program}" ] || fail_unpacking "the end is missing"
  said=$(chmod 700 "$new/${loader}" 2>&1) || fail_unpacking "$said"
  printf 'import "./${program}";\\n' >"$new/warm.js" || fail_unpacking "the disk is full"
  # A crash right after the rename must not leave empty files under the final name.
  said=$(sync "$new"/* 2>&1)
  # Another process may have been quicker: then mv fails, or moves ours into the finished directory.
  said=$(mv "$new" "$dir" 2>&1) || [ -d "$dir" ] || fail_unpacking "$said"
  for left in "$new" "$dir/.new-$$"; do [ ! -e "$left" ] || rm -rf "$left"; done
  trap - EXIT INT HUP TERM
  umask "$mask"
  tidy
  # Deno keeps the compiled code of a module that ends by itself; the program, when run, exits before: here it is only loaded.
  said=$(start "$dir/warm.js" 2>&1)
}

# Runs a file of the directory in place of this shell. The program takes these variables out of its environment again, so that
# no child sees them.
start() {
  export MOBULA_SELF="$self" DENO_DIR="$dir/cache" DENO_NO_UPDATE_CHECK=1 DENO_NO_PACKAGE_JSON=1
  exec "$dir/${loader}" --library-path "$dir" "$dir/${parts[0]!.name}" run --quiet --allow-all \\
    --no-config --no-lock --no-npm --no-remote --no-check "$@"
}

# Removes what killed processes left, and all but the newest two unpacked directories. A running program misses nothing.
tidy() {
  for left in "$base"/.new-* "$base"/.old-*; do
    [ -d "$left" ] && ! said=$(kill -0 "\${left##*-}" 2>&1) && rm -rf "$left"
  done
  set -- "$base"/*
  [ $# -gt 2 ] || return 0
  kept=0
  for old in $(ls -t "$base"); do
    [ "\${#old}" -eq ${hash.length} ] || continue
    case $old in *[!0-9a-f]*) continue ;; esac
    kept=$((kept + 1))
    [ "$kept" -gt 2 ] && said=$(mv "$base/$old" "$base/.old-$$" 2>&1) && rm -rf "$base/.old-$$"
  done
}

case $0 in
  /*) self=$0 ;;
  *) self=$(pwd)/$0 ;;
esac
if [ -n "\${MOBULA_UNPACK_DIR:-}" ]; then
  base=$MOBULA_UNPACK_DIR
elif [ -O / ]; then
  base=/var/cache/mobula
else
  base=\${XDG_CACHE_HOME:-\${HOME:?expected HOME or MOBULA_UNPACK_DIR}/.cache}/mobula
fi
case $base in
  /*) ;;
  *) base=$(pwd)/$base ;;
esac
dir=$base/${hash}
[ -d "$dir" ] || unpack
all_private || {
  demand_private "$base"
  demand_private "$dir"
}
[ -x "$dir/${loader}" ] || fail "Cannot run $dir/${loader}: incomplete, or on a file system mounted noexec;" \\
  "remove $dir, or set MOBULA_UNPACK_DIR to a directory where programs may run"
start "$dir/${program}" "$@"
exit ${HEAD_FAILURE}
}
`;
}

function renderCuts(parts: readonly Part[]): string {
  return parts.slice(1)
    .map((part, index) => `  cut ${parts[index]!.name} ${parts[index]!.size + 1} ${part.name}`)
    .join("\n");
}
