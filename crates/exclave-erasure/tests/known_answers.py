"""Prints the known answers of src/self_test.rs, from FORMAT.md section 6 alone: V x T^-1 over GF(2^8) / 0x11D."""

EXP, LOG = [0] * 510, [0] * 256
value = 1
for power in range(255):
    EXP[power] = EXP[power + 255] = value
    LOG[value] = power
    value <<= 1
    if value & 0x100:
        value ^= 0x11D


def mul(a, b):
    return 0 if a == 0 or b == 0 else EXP[LOG[a] + LOG[b]]


def inverse(a):
    return EXP[255 - LOG[a]]


def exp(r, c):
    result = 1
    for _ in range(c):
        result = mul(result, r)
    return result


def product(left, right):
    rows = []
    for row in left:
        out = []
        for c in range(len(right[0])):
            total = 0
            for i, x in enumerate(row):
                total ^= mul(x, right[i][c])
            out.append(total)
        rows.append(out)
    return rows


def inverted(matrix):
    k = len(matrix)
    work = [row[:] + [int(r == c) for c in range(k)] for r, row in enumerate(matrix)]
    for d in range(k):
        pivot = next(r for r in range(d, k) if work[r][d])
        work[d], work[pivot] = work[pivot], work[d]
        scale = inverse(work[d][d])
        work[d] = [mul(scale, x) for x in work[d]]
        for r in range(k):
            if r != d and work[r][d]:
                factor = work[r][d]
                work[r] = [x ^ mul(factor, y) for x, y in zip(work[r], work[d])]
    return [row[k:] for row in work]


def code_matrix(k, n):
    vandermonde = [[exp(r, c) for c in range(k)] for r in range(n)]
    return product(vandermonde, inverted(vandermonde[:k]))


for k, index in [(1, 1), (2, 2), (2, 3), (4, 5), (5, 8), (9, 31), (20, 26)]:
    row = code_matrix(k, 32)[index]
    data = [[(1 + 37 * j + 101 * x) % 256 for x in range(8)] for j in range(k)]
    block = product([row], data)[0]
    print(f"    Answer {{ k: {k}, index: {index}, block: {block} }},")
