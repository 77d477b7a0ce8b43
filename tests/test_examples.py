"""The examples run."""

import ast
import json
from pathlib import Path

from PIL import Image

from escnet_d2.outputs import SegmentedImage

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
PHOTO = EXAMPLES.parent / "demo/images/00001.png"


def test_the_script(run_program, tmp_path):
    done = run_program("examples/segment_photo.py", PHOTO, "wood, sand", "escnet_tiny_shapes",
                       cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert sorted(line.split()[-1] for line in done.stdout.splitlines()) == ["sand", "wood"]
    Image.open(tmp_path / "overlay.png").verify()


def test_the_notebook(tmp_path):
    """Runs its cells one after the other, as Jupyter does."""
    notebook = json.loads((EXAMPLES / "any_classes.ipynb").read_text(encoding="utf-8"))
    names, shown = {}, []
    for cell in notebook["cells"]:
        if cell["cell_type"] != "code":
            continue
        assert cell["outputs"] == []
        parsed = ast.parse("".join(cell["source"]))
        last = parsed.body.pop() if isinstance(parsed.body[-1], ast.Expr) else None
        exec(compile(parsed, "any_classes.ipynb", "exec"), names)
        if last:
            shown.append(
                eval(compile(ast.Expression(last.value), "any_classes.ipynb", "eval"), names)
            )
    first, (areas, *_), second = shown
    assert isinstance(first, SegmentedImage)
    assert first._repr_png_().startswith(b"\x89PNG")
    assert set(areas) == set(first.class_names)
    assert (second.labels == -1).any()
    # A picture is a video of one frame.
    over_time = names["shares_over_time"](PHOTO, "wood")
    assert [*over_time] == [0.0]
    assert 0 < over_time[0.0] < 1
