import json
import math

import pytest

from conceptseg.report import markdown_table, percent, plain, report_json, save_chart, shown


def test_what_is_not_finite_is_null_in_json_however_deep_it_stands():
    values = {"a": math.nan, "b": [1.5, math.inf, {"c": (-math.inf, None, "NaN", True)}]}
    text = report_json(values)
    assert json.loads(text) == {"a": None, "b": [1.5, None, {"c": [None, None, "NaN", True]}]}
    assert text.endswith("}\n") and math.isnan(values["a"])  # what was given is left alone


def test_figures_stand_on_the_right_of_a_table_and_words_on_the_left():
    rows = [["cat", "1.0"], ["dog", "-"]]
    assert markdown_table(["phrase", "AP"], rows).splitlines() == [
        "| phrase | AP |",
        "| --- | ---: |",
        "| cat | 1.0 |",
        "| dog | - |",
    ]
    assert markdown_table(["a", "b", "c"], [], words=2).splitlines()[1] == "| --- | --- | ---: |"


def test_words_of_the_data_make_no_markdown():
    assert plain("a|b\n*c* <d>") == "a\\|b \\*c\\* &lt;d&gt;"


def test_what_is_undefined_is_a_dash():
    assert [percent(0.1234), percent(math.nan), percent(None)] == ["12.3", "-", "-"]
    assert [shown(0.5, "+.0%"), shown(1234.0, ",.0f"), shown(None, ".2f")] == ["+50%", "1,234", "-"]


def test_a_chart_is_written_whole_and_makes_its_folder(tmp_path):
    figure = pytest.importorskip("matplotlib.figure").Figure()
    save_chart(figure, tmp_path / "new" / "chart.png")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["chart.png"]
