"""Drawn: purely procedural shaded portraits, 256x256, identity from a seed, expression s in [-1,1]. No photograph involved.
Identity(seed) paints the still layers once (height field lit by Lambert, hair, neck, ...); .frame(...) adds brows, eyes, mouth and folds."""

import cv2, numpy as np

S = 2
M = 256 * S
LN = cv2.LINE_AA
f32 = np.float32
Y, X = np.mgrid[0:256, 0:256].astype(f32)


def fx(p):
    return np.round(np.asarray(p, np.float64) * (S * 16)).astype(np.int32)


def fill(im, p, c):
    cv2.fillPoly(im, [fx(p)], c, LN, 4)


def line(im, p, c, w, closed=False):
    cv2.polylines(im, [fx(p)], closed, c, max(1, int(round(w * S))), LN, 4)


def G(cx, cy, sx, sy):
    return np.outer(np.exp(-(((Y[:, 0] - f32(cy)) / f32(sy)) ** 2)), np.exp(-(((X[0] - f32(cx)) / f32(sx)) ** 2)))


def soften(m, k):
    return (
        cv2.GaussianBlur(m, (0, 0), k * S)
        if k < 2
        else up(cv2.GaussianBlur(cv2.resize(m, (128, 128), interpolation=cv2.INTER_AREA), (0, 0), k / 2))
    )  # sigma k in 256-px units; wide blurs at quarter size


def mask(p, blur=0.0):
    m = np.zeros((M, M), np.uint8)
    fill(m, p, 255)
    return soften(m, blur) if blur else m


def CC(x, y):
    p = np.empty((len(x), 2))
    p[:, 0] = x
    p[:, 1] = y
    return p


def loop(x, a, b):
    n = len(x)
    p = np.empty((2 * n, 2))
    p[:n, 0] = x
    p[n:, 0] = x[::-1]
    p[:n, 1] = a
    p[n:, 1] = b[::-1]
    return p


def over(im, m, c):  # paint colour (or image) c through mask m, in m's bounding box only
    x, y, w, h = cv2.boundingRect(m if m.dtype == np.uint8 else (m > 0.5).astype(np.uint8))
    R = im[y : y + h, x : x + w]
    c = np.asarray(c, f32)
    c = c[y : y + h, x : x + w] if c.ndim == 3 else c
    R += (c - R) * (m[y : y + h, x : x + w, None].astype(f32) * f32(1 / 255))
    return im


def rnd(m, k):
    return np.clip((soften(m, k) - 127.0) * (k * 0.9) + 127, 0, 255).astype(np.uint8)  # round a mask's corners


def up(a):
    return cv2.resize(a.astype(f32), (M, M), interpolation=cv2.INTER_LINEAR)


K = dict(
    op0=0.06,
    wide=0.40,
    lift=10.0,
    open=9.0,
    teeth=7.0,
    squint=0.36,
    cheek=0.6,
    fold=115,
    bp=-0.3,
    frown=9.0,
    ba=10.0,
    bs=6.5,
    gp=0.7,
    gn=0.75,
)  # expression gains


class Identity:
    def __init__(self, seed):
        r = self.r = np.random.default_rng(seed)
        U = r.uniform
        self.seed = seed
        tone = U(0, 1) ** 1.6
        self.skin = np.array([236, 196, 170]) * (1 - tone) + np.array([128, 86, 62]) * tone + U(-8, 8)
        self.tone = tone
        H = [(38, 28, 24), (62, 42, 30), (98, 66, 40), (150, 112, 66), (196, 164, 110), (120, 62, 34), (150, 148, 146)]
        self.hair = np.array(
            H[
                r.choice(
                    7,
                    p=[0.24, 0.22, 0.18, 0.12, 0.08, 0.08, 0.08]
                    if tone < 0.6
                    else [0.6, 0.25, 0.05, 0.02, 0.01, 0.02, 0.05],
                )
            ],
            float,
        )
        self.iris = [(70, 46, 30), (96, 66, 38), (70, 104, 140), (84, 112, 80), (104, 112, 116)][
            r.integers(5) if tone < 0.5 else r.integers(2)
        ]
        self.fem = r.random() < 0.5
        self.style = r.integers(4) if self.fem else r.integers(3)
        self.beard = 0.0 if self.fem else float(r.choice([0, 0, 0.35, 0.7, 0.95]))
        self.glasses = r.random() < 0.22
        self.w = 54 * U(0.94, 1.06)
        self.chin = 204 + U(-4, 5)
        self.jaw = U(0.50, 0.66) + (0.0 if self.fem else -0.06)
        self.ey = 124 + U(-2, 2)
        self.ed = 25 * U(0.96, 1.06)
        self.ew = 12.8 * U(0.94, 1.1)
        self.eh = U(0.9, 1.12)
        self.ny = 158 + U(-2.5, 2.5)
        self.nw = U(0.88, 1.2)
        self.my = self.ny + 18 + U(-1, 1.5)
        self.mw = 20.5 * U(0.93, 1.08)
        self.lt = U(0.85, 1.3) + (0.1 if self.fem else 0)
        self.by = self.ey - 17 + U(-1.5, 1.5)
        self.bt = U(0.8, 1.1) if self.fem else U(1.0, 1.45)
        self.lip = self.skin * np.array([0.86, 0.60, 0.60]) + (U(5, 22) if self.fem else 0) * np.array([1, -0.5, -0.2])
        self.L = np.array([U(-0.45, 0.45), -U(0.35, 0.6), 1.0])
        self.L = (self.L / np.linalg.norm(self.L)).tolist()
        self.bgc = U(60, 205, 3) * 0.4 + U(70, 190) * 0.6
        self.cloth = U(20, 200, 3)
        self.noise = [r.integers(0, 9, (256, 256, 3), dtype=np.uint8) for _ in range(4)]
        self.base = self.paint()

    def hw(self, y):  # half width of the head at height y
        t = np.clip((124 - y) / 80, 0, 1)
        v = np.clip((y - 124) / (self.chin - 124), 0, 1)
        return self.w * np.where(y < 124, np.sqrt(1 - t**2.3), (1 - v**2.5) ** self.jaw)

    def outline(self):
        y = np.r_[
            np.linspace(44, 70, 14)[:-1],
            np.linspace(70, self.chin - 6, 30),
            np.linspace(self.chin - 6, self.chin, 8)[1:],
        ]
        h = self.hw(y)
        return np.r_[np.c_[128 + h, y], np.c_[128 - h, y][::-1]]

    def strands(self, k):  # hair texture: noise smeared along the strands
        n = self.r.standard_normal((M // 8, M), f32)
        n = cv2.GaussianBlur(cv2.resize(n, (M, M), interpolation=cv2.INTER_LINEAR), (0, 0), 1.0)
        n /= n.std()
        return 1 + f32(k) * n

    def paint(self):
        r, U, sk, cx = self.r, self.r.uniform, self.skin, 128.0
        im = np.ones((M, M, 3), f32) * self.bgc.astype(f32)
        im *= up(1.12 - 0.35 * ((X - 128 - 60 * self.L[0]) ** 2 + (Y - 100) ** 2) / 256**2)[..., None]
        im += cv2.resize(r.normal(0, 9, (6, 6)).astype(f32), (M, M), interpolation=cv2.INTER_CUBIC)[..., None]
        tex = self.strands(0.16)
        gl = up(0.72 + 0.55 * np.exp(-(((Y - 52 - 0.004 * (X - 128 - 40 * self.L[0]) ** 2) / 20) ** 2)))
        hair = np.clip(self.hair.astype(f32) * (tex * gl)[..., None] + 4, 0, 255).astype(f32)
        if self.fem and self.style > 0:  # long hair behind the neck
            e = [150, 190, 236, 262][self.style]
            b = self.w + 13 + U(-2, 6)
            p = [
                (cx - b * 0.5, 36),
                (cx - b * 0.9, 62),
                (cx - b, 110),
                (cx - b - 4, e - 20),
                (cx - b * 0.7, e),
                (cx + b * 0.7, e),
                (cx + b + 4, e - 20),
                (cx + b, 110),
                (cx + b * 0.9, 62),
                (cx + b * 0.5, 36),
            ]
            im = over(im, rnd(mask(p), 9), hair * 0.72)
        nk = self.w * (0.56 if self.fem else 0.68)
        im = over(
            im,
            mask(
                [
                    (cx - nk, 150),
                    (cx - nk, 214),
                    (cx - nk - 14, 236),
                    (cx + nk + 14, 236),
                    (cx + nk, 214),
                    (cx + nk, 150),
                ],
                1.5,
            ),
            sk * 0.70,
        )
        im = over(
            im,
            mask(
                [
                    (cx - nk, 178),
                    (cx - nk, self.chin + 4),
                    (cx, self.chin + 15),
                    (cx + nk, self.chin + 4),
                    (cx + nk, 178),
                ],
                4.0,
            )
            * 0.55,
            sk * 0.40,
        )
        im = over(
            im,
            mask(
                [
                    (cx - 112, 262),
                    (cx - 96, 238),
                    (cx - nk - 8, 222),
                    (cx, 246),
                    (cx + nk + 8, 222),
                    (cx + 96, 238),
                    (cx + 112, 262),
                ],
                1.2,
            ),
            up(0.9 + 0.25 * G(cx + 50 * self.L[0], 236, 70, 40))[..., None] * self.cloth.astype(f32),
        )
        if not (self.fem and self.style > 0):
            for q in (-1, 1):
                t = np.linspace(0, 6.28, 20)
                p = np.c_[cx + q * (self.w + 1) + 6.5 * np.cos(t), self.ey + 9 + 15 * np.sin(t)]
                im = over(im, mask(p, 0.7), sk * 0.80)
                im = over(
                    im,
                    mask((p - [cx + q * (self.w + 1), self.ey + 9]) * 0.5 + [cx + q * (self.w + 2), self.ey + 9], 1.5)
                    * 0.6,
                    sk * 0.52,
                )
        hw = np.maximum(self.hw(Y), 0.66 * self.w)
        u = (X - cx) / (1.10 * hw)
        v = (Y - 126) / (1.12 * np.where(Y < 126, 82, self.chin - 126))
        q = 1 - u * u - 0.72 * v * v
        z = 62 * np.sqrt(0.5 * (q + np.sqrt(q * q + 0.012)))
        ny, ey = self.ny, self.ey
        t = np.clip((Y - ey + 6) / (ny - ey), 0, 1.2)
        z += (
            np.exp(-(((X - cx) / ((4.6 + 3.2 * t) * self.nw)) ** 2))
            * (3 + 13 * t**1.4)
            * np.where(Y < ey - 6, 0, 1)
            / (1 + np.exp((Y - ny + 1) / 1.6))
        )
        for q in (-1, 1):
            z += (
                5.0 * G(cx + q * 9.2 * self.nw, ny - 3.5, 4.6, 4.2)
                - 7 * G(cx + q * self.ed * 0.96, ey - 1, 13.5, 7.5)
                + 3.2 * G(cx + q * 24, self.by - 2, 17, 7)
                + 4.2 * G(cx + q * 33, ey + 25, 14, 13)
                + 2.2 * G(cx + q * self.ed, ey, 8.5, 6)
                - 1.2 * G(cx + q * 22, self.my - 4, 5, 9)
            )
        z += (
            4 * G(cx, self.my, 20, 10)
            + 5.5 * G(cx, self.chin - 10, 15, 9)
            - 3.2 * G(cx, self.my + 11, 13, 4)
            - 1.3 * G(cx, self.my - 10, 2.6, 6)
        )
        z = cv2.GaussianBlur(z.astype(f32), (0, 0), 1.2)
        gx = cv2.Sobel(z, cv2.CV_32F, 1, 0, scale=0.125)
        gy = cv2.Sobel(z, cv2.CV_32F, 0, 1, scale=0.125)
        n = 1 / np.sqrt(gx * gx + gy * gy + 1)
        d = np.clip((-gx * self.L[0] - gy * self.L[1] + self.L[2]) * n, 0, 1)
        sh = 0.54 + 0.60 * d
        sh *= 1 - 0.30 * (1 - n) ** 1.5
        spec = np.clip((-gx * self.L[0] * 0.5 - gy * self.L[1] * 0.5 + 1) * n / np.hypot(1, 0.3), 0, 1) ** 40
        sh *= (
            1
            - 0.20 * G(cx, ny + 5, 11, 4)
            - 0.13 * (G(cx - self.ed, ey - 6, 13, 5) + G(cx + self.ed, ey - 6, 13, 5))
            - 0.08 * G(cx, self.my + 12, 12, 3.5)
        )
        sh += cv2.GaussianBlur(r.standard_normal((256, 256)).astype(f32), (0, 0), 1.3) * 0.035
        col = up(sh)[..., None] * sk.astype(f32)
        ck = up(G(cx - 32, ey + 27, 16, 14) + G(cx + 32, ey + 27, 16, 14) + 0.8 * G(cx, ny - 4, 10, 7))[..., None]
        col *= 1 - ck * np.array([-0.02, 0.07, 0.06], f32)
        col += up(spec)[..., None] * (10 + 14 * self.tone)
        if self.beard > 0:
            y0 = self.my + 8
            b = (
                up(
                    1
                    / (1 + np.exp(-(Y - (ey + 34) - 10 * (1 - ((X - cx) / 46) ** 2)) / 4))
                    * np.clip(1 - 1.0 * G(cx, self.my + 0.5, self.mw * 1.12, 6.5), 0, 1)
                    * (1 - 0.9 * G(cx, ny - 4, 16, 8))
                )
                * self.beard
                * (0.8 + 0.2 * np.clip(1 + 3 * (tex - 1), 0, 2))
            )
            col += (self.hair.astype(f32) * 0.8 * np.clip(up(sh) + 0.1, 0, 1)[..., None] - col) * np.clip(
                b * 0.78, 0, 0.8
            )[..., None]
        im = over(im, mask(self.outline(), 0.8), col)
        for q in (-1, 1):
            m = np.zeros((M, M), np.uint8)
            t = np.linspace(0, 6.28, 16)
            fill(
                m,
                np.c_[cx + q * 5.6 * self.nw + 3.1 * np.cos(t), ny + 1.2 + 1.7 * np.sin(t) - 0.25 * q * np.cos(t)],
                255,
            )
            im = over(im, cv2.GaussianBlur(m, (0, 0), 1.6) * 0.85, sk * 0.22)
            m[:] = 0
            line(
                m,
                [
                    (cx + q * 10 * self.nw, ny - 8),
                    (cx + q * 13 * self.nw, ny - 4),
                    (cx + q * 12.4 * self.nw, ny + 0.5),
                    (cx + q * 9.6 * self.nw, ny + 1.8),
                ],
                255,
                1.4,
            )
            im = over(im, cv2.GaussianBlur(m, (0, 0), 2.2) * 0.45, sk * 0.42)
        hl = 72 + U(-6, 8)
        w = self.w
        part = U(-22, 22)
        o = self.outline()
        k = np.linspace(0, np.pi, 25)
        lift = U(5, 13)
        top = np.c_[
            cx - (w + 6) * np.cos(k), 92 - (49 + lift) * np.sin(k) ** 0.8
        ]  # front hair: cap outside, hairline inside
        side = (self.ey + (6 if self.fem else -4)) if not (self.fem and self.style > 0) else self.ey + 60
        inner = [
            (cx + w + 7, 92),
            (cx + w + 3, side),
            (cx + w - 3, side - 4),
            (cx + w - 7, 102),
            (cx + w - 14, hl + 12),
            (cx + 26, hl + 2),
            (cx + part, hl - 4 + (8 if self.fem else 0)),
            (cx - 26, hl + 2),
            (cx - w + 14, hl + 12),
            (cx - w + 7, 102),
            (cx - w + 3, side - 4),
            (cx - w - 3, side),
            (cx - w - 7, 92),
        ]
        if self.fem and self.style == 3:
            inner[5:8] = [(cx + 30, hl + 18), (cx + part * 0.3, hl + 20), (cx - 30, hl + 18)]  # fringe
        m = rnd(mask(np.r_[top, inner]), 2.6)
        sdw = soften(np.roll(m, 5 * S, 0), 5) * f32(0.35)
        im = over(im, np.minimum(sdw, mask(o, 1.0)), sk * 0.45)
        m0 = m
        m = cv2.GaussianBlur(m, (0, 0), 3.0).astype(f32)
        m = np.clip(np.minimum((m - 127) * 1.3 + 127 + (tex - 1) * 450, m * 2.5), 0, 255)
        im = over(im, m if self.fem or self.style < 2 or U() < 0.6 else m * 0.8, hair)
        return np.clip(im, 0, 255).astype(np.uint8)

    def col(self, c, k=1.0):
        return tuple(min(255.0, max(0.0, float(v) * k)) for v in c)

    def face(self, s, talk=0.0, blink=0.0, brow=0.0, style=0.0, gaze=(0.0, 0.0)):
        e = float(np.clip(s, -1, 1))
        p, n = max(0.0, e) ** K["gp"], max(0.0, -e) ** K["gn"]
        an, sd = n * min(1, max(0, 0.5 + 0.6 * style)), n * min(1, max(0, 0.5 - 0.6 * style))
        cx, ey, C = 128.0, self.ey, self.col
        im = self.base.copy()
        sk = self.skin
        lit = np.full((128, 128), 200, np.uint8)  # lit: soft darkening/lightening, 200 = unchanged

        def soft(pts, v, w):
            cv2.polylines(lit, [np.round(np.asarray(pts) * 8).astype(np.int32)], False, v, w, LN, 4)

        smx = self.mw * (1 + K["wide"] * p - 0.10 * an + 0.03 * sd - 0.10 * talk)
        cy = -K["lift"] * p + K["frown"] * n + sd
        my = self.my - 1.0 * p + 1.5 * n
        for q in (-1, 1):
            if p > 0.05:
                soft(
                    [
                        (cx + q * 13.5 * self.nw, self.ny - 3),
                        (cx + q * (20 + 4 * p), self.ny + 6),
                        (cx + q * (smx + 5.5), my - 4),
                        (cx + q * (smx + 4), my + 2),
                    ],
                    int(200 - K["fold"] * p),
                    2,
                )
                cv2.ellipse(
                    lit, (int((cx + q * 34) / 2), int((ey + 24 - 3 * p) / 2)), (7, 5), 0, 0, 360, int(200 + 34 * p), -1
                )
                soft([(cx + q * 14, ey + 9), (cx + q * 26, ey + 11), (cx + q * 36, ey + 8)], int(200 - 50 * p), 1)
            if n > 0.05:
                soft(
                    [(cx + q * 14 * self.nw, self.ny - 2), (cx + q * 23, self.ny + 8), (cx + q * (smx + 4), my + 2)],
                    int(200 - 45 * n),
                    2,
                )
                soft([(cx + q * (smx + 1), my + cy), (cx + q * (smx + 3), my + cy + 8)], int(200 - 80 * n), 2)
            if an > 0.05:
                soft([(cx + q * 4, self.by - 6), (cx + q * 3.2, self.by + 8)], int(200 - 110 * an), 1)
                soft([(cx + q * 9, self.by + 7), (cx + q * 20, self.by + 9)], int(200 - 80 * an), 2)
        if sd > 0.2:
            soft([(cx - 15, self.by - 16), (cx, self.by - 18), (cx + 15, self.by - 16)], int(200 - 40 * sd), 1)
        soft(
            [(cx - 10, my + 13 + 9 * talk), (cx, my + 14 + 9 * talk), (cx + 10, my + 13 + 9 * talk)],
            int(180 - 25 * n),
            2,
        )
        lit = cv2.GaussianBlur(lit, (0, 0), 1.7)
        a, b, c, d = 80 * S, 216 * S, 72 * S, 184 * S
        L = cv2.resize(lit[40:108, 36:92], (d - c, b - a), interpolation=cv2.INTER_LINEAR)
        im[a:b, c:d] = cv2.multiply(im[a:b, c:d], cv2.merge([L, L, L]), scale=1 / 200)
        hair = self.hair * 0.62 + sk * 0.06
        for q in (-1, 1):  # eyes and brows
            ex = cx + q * self.ed
            w = self.ew
            h1 = 5.9 * self.eh * (1 - K["squint"] * p - 0.30 * an - 0.22 * sd) * (1 - 0.93 * blink) + 0.2
            h2 = 4.0 * self.eh * (1 - K["cheek"] * p - 0.10 * an) * (1 - 0.3 * blink)
            t = np.linspace(-1, 1, 13)
            k = 1 - t * t
            tl = t * q * (-1.0 + 1.6 * sd - 1.5 * an)
            upl = CC(ex + w * t, ey - h1 * k**0.75 + tl)
            lol = CC(ex + w * t, ey + h2 * k**0.85 + tl)
            if blink > 0.5:
                upl[:, 1] += h2 * 0.7 * k
            al = loop(ex + w * t, upl[:, 1], lol[:, 1])
            x0, y0 = int((ex - w - 4) * S), int((ey - 13) * S)
            x1, y1 = int((ex + w + 4) * S), int((ey + 11) * S)
            R = im[y0:y1, x0:x1]
            m = np.zeros(R.shape[:2], np.uint8)
            o = np.array([x0, y0]) / S
            fill(m, al - o, 255)
            E = np.empty_like(R)
            E[:] = (222, 216, 212)
            E[: int((ey - h1 * 0.45) * S) - y0] = (170, 160, 154)
            E = cv2.GaussianBlur(E, (0, 0), 2.5)
            gx, gy = ex + gaze[0] - o[0], ey - 0.9 + gaze[1] - o[1]
            ci = lambda x, y, rr, c: cv2.circle(E, (int(x * S * 16), int(y * S * 16)), int(rr * S * 16), c, -1, LN, 4)
            ci(gx, gy, 5.9, C(self.iris, 0.45))
            ci(gx, gy + 0.2, 5.1, C(self.iris))
            ci(gx, gy + 1.6, 3.2, C(self.iris, 1.3))
            ci(gx, gy, 2.5, (14, 12, 12))
            ci(gx - 1.6 + 2.5 * (self.L[0] > 0), gy - 2, 1.15, (245, 245, 245))
            mm = cv2.GaussianBlur(m, (0, 0), 0.9)[..., None].astype(np.uint16)
            R[:] = ((R * (255 - mm) + E * mm) >> 8).astype(np.uint8)
            line(im, upl, C(hair, 0.45) if self.fem else C(sk * 0.22), 1.7 if self.fem else 1.3)
            line(im, lol[2:-2], C(sk, 0.55), 0.6)
            line(im, upl[2:-1] - [0, 3.6 + 1.2 * (1 - blink) - 1.5 * an], C(sk, 0.60), 0.8)
            bi = self.by + K["bp"] * p + K["ba"] * an - K["bs"] * sd + brow
            bo = self.by + K["bp"] * p - 1.5 * an + 4.4 * sd + brow
            t = np.linspace(0, 1, 8)
            bx = cx + q * (9.5 - 2.8 * an + t * (34 - 9.5 + 2.8 * an))
            yc = bi + (bo - bi) * t - (3.6 - 2.2 * an - 1.0 * sd) * np.sin(np.pi * t**1.15) + 1.8 * t**3
            th = self.bt * (3.1 - 1.9 * t**1.6) * np.minimum(1, 0.55 + 3 * t)
            B = loop(bx, yc - th, yc + th * 0.8)
            x0, x1 = int((B[:, 0].min() - 3) * S), int((B[:, 0].max() + 3) * S)
            y0, y1 = int((B[:, 1].min() - 3) * S), int((B[:, 1].max() + 3) * S)
            R = im[y0:y1, x0:x1]
            m = np.zeros(R.shape[:2], np.uint8)
            fill(m, B - np.array([x0, y0]) / S, 225)
            mm = cv2.GaussianBlur(m, (0, 0), 1.7)[..., None].astype(np.uint16)
            R[:] = ((R * (255 - mm) + np.array(hair * 0.9, np.uint16) * mm) >> 8).astype(np.uint8)
        u = np.linspace(-1, 1, 21)
        k = np.clip(1 - u * u, 0, 1)
        seam = my + cy * (np.abs(u) ** 1.7 - 0.45)
        x = cx + smx * u
        op = max(0, p - K["op0"]) / (1 - K["op0"])  # mouth
        gu = (2.6 * op + 1.0 * talk) * k**0.6
        gl = (K["open"] * op + 9.5 * talk * (1 - 0.3 * op)) * k**0.75
        lt = self.lt
        tu = lt * (4.2 - 1.3 * p - 1.3 * an) * (1 - np.abs(u) ** 1.9) * (1 - 0.20 * np.exp(-((u / 0.14) ** 2)))
        tlw = lt * (5.2 - 1.2 * p - 1.2 * an + 0.8 * sd) * k**0.75
        iu, il = seam - gu, seam + gl
        lip = self.lip
        R = im[int((my - 24) * S) : int((my + 34) * S), int(86 * S) : int(170 * S)]
        o = np.array([86, int((my - 24) * S) / S])
        p_ = lambda a, b: loop(x - o[0], a - o[1], b - o[1])
        fill(R, p_(iu - tu, il + tlw), C(lip * 0.6 + sk * 0.35))
        fill(R, p_(iu - tu * 0.85, iu + 0.3), C(lip, 0.84))
        fill(R, p_(il - 0.3, il + tlw * 0.92), C(lip, 0.98))
        fill(R, p_(il + tlw * 0.25, il + tlw * 0.62), C(lip, 1.09))
        if op + talk > 0.02:
            fill(R, p_(iu, il), (52, 22, 24))
            te = np.minimum(il - 0.2, iu + (1.2 + K["teeth"] * op + 2.2 * talk) * k**0.35)
            te = np.maximum(te, iu + 0.4)
            fill(R, p_(iu + 0.3, te)[1:-1], (214, 208, 198))
            fill(
                R,
                loop(x[4:17] - o[0], (iu + 0.5 - o[1])[4:17], (np.maximum(te - 0.4, iu + 0.5) - o[1])[4:17]),
                (236, 231, 222),
            )
            for j in (-3, -2, -1, 0, 1, 2, 3):
                line(
                    R,
                    np.array(
                        [
                            (cx + j * smx * 0.2, np.interp(j * 0.2, u, iu) + 1),
                            (cx + j * smx * 0.2, np.interp(j * 0.2, u, te) - 0.5),
                        ]
                    )
                    - o,
                    (188, 180, 170),
                    0.4,
                )
            line(R, CC(x, iu + 0.3) - o, C(lip, 0.45), 0.6)
        else:
            line(R, CC(x, seam) - o, C(lip, 0.36), 1.0)
        for q in (-1, 1):
            cv2.circle(R, tuple(fx([cx + q * smx - o[0], seam[-1] - o[1]])), 16 * S, C(sk * 0.34), -1, LN, 4)
        R[:] = cv2.GaussianBlur(R, (0, 0), 1.1)
        if self.glasses:
            for q in (-1, 1):
                t = np.linspace(0, 2 * np.pi, 28)
                c_, s_ = np.cos(t), np.sin(t)
                line(
                    im,
                    CC(
                        cx + q * self.ed * 1.03 + 18.5 * np.sign(c_) * np.abs(c_) ** 0.75,
                        ey + 1 + 13.5 * np.sign(s_) * np.abs(s_) ** 0.75,
                    ),
                    (42, 36, 36),
                    1.2,
                    True,
                )
                line(im, [(cx + q * (self.ed + 19), ey - 3), (cx + q * (self.w + 1), ey - 4)], (42, 36, 36), 1.3)
            line(im, [(cx - 6.5, ey - 1), (cx, ey - 3), (cx + 6.5, ey - 1)], (42, 36, 36), 1.2)
        return im

    def move(self, im, dx=0.0, dy=0.0, deg=0.0, sc=1.0, warm=0.0, gain=1.0, i=0, mirror=False):
        c, sn = np.cos(np.deg2rad(deg)) * sc, np.sin(np.deg2rad(deg)) * sc
        A = np.array([[c, -sn, 128 + dx - c * 128 + sn * 135], [sn, c, 135 + dy - sn * 128 - c * 135]])
        f = cv2.warpAffine(
            cv2.resize(im, (256, 256), interpolation=cv2.INTER_AREA),
            A,
            (256, 256),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REFLECT,
        )
        f = cv2.addWeighted(f, gain, self.noise[i % 4], 1.0, -4.0)
        return cv2.flip(f, 1) if mirror else f


def clip(seed, s=None, fps=15):
    r = np.random.default_rng(seed + 77777)
    I = Identity(seed)
    s = float(r.uniform(-1, 1)) if s is None else s
    n = int(r.uniform(2, 3) * fps)
    t = np.arange(n) / fps
    ph = r.uniform(0, 6.28, 8)
    style = float(r.uniform(-1, 1))
    b = (r.uniform(-8, 8), r.uniform(-6, 6), r.uniform(-5, 5))
    env = np.clip(0.3 + t / 0.5, 0, 1) * (0.9 + 0.1 * np.sin(2 * t + ph[0]))
    syl = np.clip(
        0.6 * np.sin(2 * np.pi * r.uniform(2.5, 4) * t + ph[1]) + 0.4 * np.sin(6.9 * t + ph[2]), 0, 1
    ) * r.uniform(0.3, 0.8)
    bl = np.exp(-(((t - r.uniform(0.4, n / fps - 0.2)) / 0.07) ** 2))
    fix = dict(sc=r.uniform(0.9, 1.1), gain=r.uniform(0.85, 1.12), mirror=bool(r.integers(2)))
    F = [
        I.move(
            I.face(
                s * env[i],
                syl[i],
                bl[i],
                np.sin(1.5 * t[i] + ph[3]),
                style,
                (1.5 * np.sin(0.9 * t[i] + ph[7]), 0.4 * np.sin(1.2 * t[i])),
            ),
            b[0] + 3 * np.sin(1.3 * t[i] + ph[4]),
            b[1] + 2 * np.sin(1.7 * t[i] + ph[5]),
            b[2] + 3 * np.sin(1.1 * t[i] + ph[6]),
            i=i,
            **fix,
        )
        for i in range(n)
    ]
    return s, style, np.stack(F), fps
