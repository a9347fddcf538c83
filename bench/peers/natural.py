"""Data set N: vectors of real text, made on the machine that measures, from the documentation that its packages carry.

Paragraphs of manual pages, of /usr/share/doc, of the Rust book shelf and of Python docstrings, each kept once, in the
order of their digests, so a machine always picks the same ones. TF-IDF of words, then a truncated SVD to 384
dimensions, seeded, fitted on the base alone; every vector has length 1. The last paragraphs are held out as queries.

  python natural.py --dir $BENCH_DIR [--rows 200000] [--queries 10000]

Writes n_base.f32 and n_query.f32 (raw little-endian floats, 384 a row) and n.json; files that are there are kept.
"""
import argparse
import ast
import gzip
import hashlib
import html
import json
import os
import re
import subprocess
import sys
import warnings

DIM = 384
SEED = 7
CHARS_MIN, CHARS_MAX, WORDS_MIN = 120, 2000, 16
FILE_BYTES_MAX = 4 << 20
TAG = re.compile(r"<[^>]*>")
HTML_BLOCK = re.compile(r"<(?:p|li|dd)\b[^>]*>(.*?)</(?:p|li|dd)>", re.S | re.I)
ROFF_BREAK = re.compile(r"^\.(?:PP|P|LP|TP|IP|SH|SS|HP|Pp|It|Sh|Ss|sp|RS|RE)\b.*$", re.M)
ROFF_FONT = re.compile(r"\\f\[?[A-Z]+\]?|\\f.|\\[&|^/,]")
WORD = re.compile(r"[A-Za-z]{2,}")


def roots():
    yield "/usr/share/man"
    yield "/usr/share/doc"
    yield "/usr/share/info"
    yield "/usr/share/perl"
    yield "/usr/share/vim"
    for parent in ("/usr/lib/python3", os.path.dirname(os.__file__), "/usr/lib/google-cloud-sdk/lib"):
        yield parent
    try:
        yield subprocess.run(["rustc", "--print", "sysroot"], capture_output=True, text=True).stdout.strip() + "/share/doc"
    except OSError:
        pass


def read(path):
    if os.path.getsize(path) > FILE_BYTES_MAX:
        return ""
    with (gzip.open if path.endswith(".gz") else open)(path, "rb") as f:
        return f.read(FILE_BYTES_MAX).decode("utf-8", "ignore")


def docstrings(text):
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            yield from re.split(r"\n\s*\n", ast.get_docstring(node) or "")


def paragraphs(path):
    name = path.removesuffix(".gz")
    text = read(path)
    if name.endswith((".html", ".htm")):
        for block in HTML_BLOCK.findall(text):
            yield html.unescape(TAG.sub("", block))
    elif name.endswith(".py"):
        yield from docstrings(text)
    elif "/man/" in name:
        text = ROFF_FONT.sub("", ROFF_BREAK.sub("\n", text)).replace("\\-", "-")
        lines = [re.sub(r"^\.\w+ ?", "", line) for line in text.split("\n") if not line.startswith((".\\\"", "'\\\""))]
        yield from re.split(r"\n\s*\n", "\n".join(lines))
    elif name.endswith((".txt", ".md", ".rst", ".pod", ".info")) or "/doc/" in name and "." not in os.path.basename(name):
        yield from re.split(r"\n\s*\n", text)


def collect(count):
    found = {}
    for root in dict.fromkeys(map(os.path.realpath, roots())):
        for folder, _, names in sorted(os.walk(root)):
            for name in sorted(names):
                path = os.path.join(folder, name)
                if os.path.islink(path) or not os.path.isfile(path):
                    continue
                try:
                    for text in paragraphs(path):
                        words = WORD.findall(text)
                        if len(words) >= WORDS_MIN and CHARS_MIN <= len(text) <= CHARS_MAX:
                            # Paragraphs that differ in case, numbers or marks only are one.
                            key = hashlib.blake2b(" ".join(words).lower().encode(), digest_size=12).digest()
                            found.setdefault(key, " ".join(text.split()))
                except (OSError, EOFError, gzip.BadGzipFile):
                    continue
    print(f"{len(found)} different paragraphs", file=sys.stderr)
    return [found[key] for key in sorted(found)[:count]]


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--dir", required=True)
    ap.add_argument("--rows", type=int, default=200_000)
    ap.add_argument("--queries", type=int, default=10_000)
    a = ap.parse_args()
    about = os.path.join(a.dir, "n.json")
    if os.path.exists(about):
        return
    warnings.simplefilter("ignore")
    import numpy as np
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.preprocessing import normalize

    texts = collect(a.rows + a.queries)
    # A machine with fewer packages has fewer rows; the queries stay a twentieth.
    queries = min(a.queries, len(texts) // 21)
    base, held_out = texts[:-queries], texts[-queries:]
    tfidf = TfidfVectorizer(min_df=3, max_df=0.2, max_features=100_000, sublinear_tf=True, dtype=np.float32)
    svd = TruncatedSVD(DIM, n_iter=4, random_state=SEED)
    rows = normalize(svd.fit_transform(tfidf.fit_transform(base)))
    asked = normalize(svd.transform(tfidf.transform(held_out)))
    # A paragraph without one known word has no direction; it is no row and no query.
    rows, asked = (x[np.linalg.norm(x, axis=1) > 0.5].astype("<f4") for x in (rows, asked))
    rows.tofile(os.path.join(a.dir, "n_base.f32"))
    asked.tofile(os.path.join(a.dir, "n_query.f32"))
    with open(about, "w") as f:
        json.dump({"dim": DIM, "rows": len(rows), "queries": len(asked), "words": len(tfidf.vocabulary_),
                   "variance": round(float(svd.explained_variance_ratio_.sum()), 4)}, f)


main()
