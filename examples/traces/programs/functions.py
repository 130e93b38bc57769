"""A C program of so many functions, as a code generator would write it: functions.py COUNT."""

from __future__ import annotations

import random
import sys

_BODY = """\
struct s{n} {{ int a[{length}]; struct s{before} *before; const char *name; }};

int f{n}(struct s{n} *s, int x)
{{
    int sum = {first};
    for (int i = 0; i < {length}; i++) {{
        if (s->a[i] > x && (i % {step}) != 0)
            sum += s->a[i] * {factor};
        else
            sum ^= strlen(s->name) + (s->before ? f{before}(s->before, sum) : i);
    }}
    switch (sum & 7) {{
    case 0: return printf("%d %s\\n", sum, s->name);
    case 1: case 2: return sum << 1;
    case 3: return memcmp(s->a, &x, sizeof x);
    default: return sum + {factor};
    }}
}}
"""


def main() -> None:
    """Print it."""
    draw = random.Random(1)  # noqa: S311 - the same each time
    print("#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n#include <math.h>")
    print("struct s0 { int x; };\nstatic int f0(struct s0 *s, int x) { return s->x + x; }")
    count = int(sys.argv[1])
    for n in range(1, count + 1):
        print(
            _BODY.format(
                n=n, before=draw.randrange(n), length=draw.randrange(4, 64),
                first=draw.randrange(1000), step=draw.randrange(2, 9), factor=draw.randrange(3, 99),
            )
        )  # fmt: skip
    print(f"int main(void) {{ struct s{count} s = {{ {{ 1 }} }}; return f{count}(&s, 1); }}")


if __name__ == "__main__":
    main()
