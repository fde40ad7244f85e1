"""ExplainImage with the real model: what it says of a picture, what it costs, and when it is refused."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
from PIL import Image, ImageDraw
from sensorium.vision.v1 import vision_service_pb2 as pb

from services.vision.limits import Bounds, ExplainBounds, describe
from services.vision.pipeline.tensor import Floats
from services.vision.rpc.explain_image import divide, look
from services.vision.rpc.preparation import DIGIT_PREPARATION, Preparation
from services.vision.servicer import VisionServicer
from shared.errors import DeadlineExceeded, InvalidArgument
from shared.inference.repository.repository import Repository
from shared.inference.settings import InferenceSettings
from shared.rpc.deadline import Deadline, set_deadline
from tests.services.vision.asking import images, open_image
from tests.services.vision.picture import encode
from tests.support.memory import resident_bytes
from tests.support.signing import UNSIGNED
from tests.support.waiting import within

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIMIT_S = 120.0
SHIPPED = Path(__file__).parents[3] / "services" / "vision" / "models"
CATALOG = {"efficientnet-lite0": {"version": "1", "default_for": ["ClassifyImage", "ExplainImage"]}}


@dataclass(frozen=True)
class Service:
    servicer: VisionServicer
    repository: Repository

    async def explain(self, timeout_s: float = LIMIT_S, **fields: object) -> pb.ExplainImageResponse:
        set_deadline(Deadline.after(timeout_s))
        return await within(self.servicer.ExplainImage(pb.ExplainImageRequest(**fields), None), LIMIT_S)

    async def score(self, contents: list[bytes], index: int) -> list[float]:
        set_deadline(Deadline.after(LIMIT_S))
        request = pb.ClassifyImageRequest(images=images(*contents), top_k=1000)
        reply = await within(self.servicer.ClassifyImage(request, None), LIMIT_S)
        return [
            next(one.score for one in result.classifications if one.index == index)
            for result in reply.results
        ]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    folder = tmp_path_factory.mktemp("models")
    name = "efficientnet-lite0"
    (folder / name).symlink_to(models_dir / "vision" / name, target_is_directory=True)
    (folder / "digits").symlink_to(SHIPPED / "digits", target_is_directory=True)
    settings = InferenceSettings(signature=UNSIGNED, watch_s=0, golden_check=False)
    repository = Repository(folder, "vision", settings, CATALOG)
    await within(repository.load_all(), LIMIT_S)
    yield Service(VisionServicer(repository, Bounds()), repository)
    await within(repository.close())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def explained(service: Service, cat: bytes) -> pb.ExplainImageResponse:
    """The cat, explained once with the default runs."""
    return await service.explain(images=images(cat))


async def test_what_is_said_of_a_cat(
    service: Service, explained: pb.ExplainImageResponse, cat: bytes
) -> None:
    (result,) = explained.results
    assert explained.model.name == "vision/efficientnet-lite0"
    assert result.label in ("Egyptian cat", "tabby")
    (score,) = await service.score([cat], result.index)
    assert result.score == pytest.approx(score, abs=1e-6)
    assert result.base_score < 0.05
    assert (result.rows, result.columns) == (6, 10)
    assert len(result.attributions) == result.rows * result.columns
    assert result.run_count == 128
    assert explained.timing.compute.ToNanoseconds() > 0


async def test_the_heat_map_is_a_png_of_the_same_proportions(
    explained: pb.ExplainImageResponse, cat: bytes
) -> None:
    image = Image.open(BytesIO(explained.results[0].heat_map))
    width, height = open_image(cat).size
    assert image.format == "PNG"
    assert max(image.size) == 512
    assert image.width / image.height == pytest.approx(width / height, rel=0.01)


async def test_where_the_model_does_not_look_there_is_nothing(service: Service, cat: bytes) -> None:
    wide = Image.new("RGB", (900, 300), (90, 120, 90))
    wide.paste(open_image(cat).crop((0, 0, 300, 300)), (300, 0))
    (result,) = (await service.explain(images=images(encode(wide, "PNG")), max_runs=64)).results
    grid = np.array(result.attributions).reshape(result.rows, result.columns)
    # Only the middle third is cropped out.
    columns = np.flatnonzero(np.abs(grid).sum(axis=0))
    assert columns.min() >= result.columns // 3 - 1
    assert columns.max() <= result.columns - result.columns // 3
    # The cells are made smaller, so that what is seen is divided as finely as of any other picture.
    assert np.count_nonzero(grid) >= 20


async def test_covering_what_speaks_for_it_hurts_more_than_anything(
    service: Service, cat: bytes, portrait: bytes, page: bytes
) -> None:
    rng = np.random.default_rng(3)
    for content in (cat, portrait, page):
        (result,) = (await service.explain(images=images(content))).results
        image = open_image(content)
        ground = np.median(np.asarray(image).reshape(-1, 3), axis=0).astype(int)
        found = np.array(result.attributions)
        seen = np.flatnonzero(found)
        count = len(seen) // 5
        sets = [seen[np.argsort(-found[seen])][:count], *(rng.permutation(seen)[:count] for _ in range(8))]
        covered = [cover(image, ground, result, cells) for cells in sets]
        top, *others = await service.score(covered, result.index)
        assert top < np.mean(others), result.label


def cover(image: Image.Image, ground: np.ndarray, result: pb.ExplainImageResult, cells: np.ndarray) -> bytes:
    covered = image.copy()
    for cell in cells:
        row, column = divmod(int(cell), result.columns)
        left, right = (round(image.width * (column + one) / result.columns) for one in (0, 1))
        top, bottom = (round(image.height * (row + one) / result.rows) for one in (0, 1))
        covered.paste(tuple(map(int, ground)), (left, top, right, bottom))
    return encode(covered, "PNG")


async def test_of_a_digit_the_ink_speaks_for_it(service: Service) -> None:
    paper = Image.new("RGB", (200, 140), (235, 232, 225))
    draw = ImageDraw.Draw(paper)
    draw.line([(110, 20), (110, 120)], fill=(40, 40, 60), width=9)
    draw.line([(110, 20), (92, 40)], fill=(40, 40, 60), width=9)
    request = {"images": images(encode(paper, "PNG")), "model": "digits"}
    (result,) = (await service.explain(**request)).results
    assert (result.label, result.score > 0.9) == ("1", True)
    grid = np.array(result.attributions).reshape(result.rows, result.columns)
    # Where there is paper only, nothing speaks for anything.
    assert not grid[:, : result.columns // 3].any()
    assert not grid[:, -result.columns // 4 :].any()
    assert grid.sum() > 0.3
    (again,) = (await service.explain(**request)).results
    assert again.attributions == result.attributions


async def test_a_picture_of_one_colour_has_nothing_that_speaks(service: Service) -> None:
    plain = encode(Image.new("RGB", (64, 48), (90, 90, 200)), "PNG")
    photo, digit = [
        (await service.explain(images=images(plain), model=name)).results[0]
        for name in ("efficientnet-lite0", "digits")
    ]
    assert photo.run_count == 2
    assert not any(photo.attributions)
    assert photo.score == pytest.approx(photo.base_score, abs=1e-6)
    assert digit.status.code == 3


async def test_the_label_that_is_asked_for(service: Service, cat: bytes) -> None:
    (result,) = (await service.explain(images=images(cat), label="lynx", max_runs=32)).results
    assert result.label == "lynx"
    (score,) = await service.score([cat], result.index)
    assert result.score == pytest.approx(score, abs=1e-6)


async def test_of_two_classes_with_one_name_the_likelier_is_meant(service: Service, cat: bytes) -> None:
    # ImageNet has two cranes: the bird and the machine.
    (result,) = (await service.explain(images=images(cat), label="crane", max_runs=16)).results
    assert result.label == "crane"
    assert result.index in (134, 517)
    scores = [(await service.score([cat], index))[0] for index in (134, 517)]
    assert result.score == pytest.approx(max(scores), abs=1e-7)


async def test_a_bad_image_fails_alone(service: Service, cat: bytes) -> None:
    results = (await service.explain(images=images(b"no image", cat, b""), max_runs=16)).results
    assert [result.status.code for result in results] == [3, 0, 3]
    assert results[1].run_count == 16


@pytest.mark.parametrize("size", [(1, 1), (2, 300), (1, 4000)])
async def test_pictures_of_odd_sizes(service: Service, size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(5).integers(0, 255, (size[1], size[0], 3), np.uint8)
    content = encode(Image.fromarray(pixels), "PNG")
    (result,) = (await service.explain(images=images(content), max_runs=16)).results
    assert result.status.code == 0
    assert len(result.attributions) == result.rows * result.columns
    assert np.isfinite(result.attributions).all()
    assert Image.open(BytesIO(result.heat_map)).size[0] >= 1


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, "images"),
        ({"images": images(*[b"x"] * 5)}, "images"),
        ({"images": images(b"x"), "max_runs": 8}, "max_runs"),
        ({"images": images(b"x"), "max_runs": 2000}, "max_runs"),
        ({"images": images(b"x"), "label": "egyptian cat"}, "label"),
    ],
)
async def test_bad_requests(service: Service, fields: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await service.explain(**fields)
    assert caught.value.field == field


async def test_a_label_that_nearly_is_one_is_offered(service: Service) -> None:
    with pytest.raises(InvalidArgument, match="did you mean 'Egyptian cat'"):
        await service.explain(images=images(b"x"), label="egyptian cat")


async def test_what_cannot_be_done_in_time_is_refused_at_once(service: Service, cat: bytes) -> None:
    batcher = service.repository.model("", "ClassifyImage").graphs["model"].batcher
    # So that what a run takes is known.
    await service.explain(images=images(cat), max_runs=16)
    before = batcher.statistics.to_message("", "").execution_count
    with pytest.raises(DeadlineExceeded, match="explaining the images takes about"):
        await service.explain(timeout_s=2.0, images=images(*[cat] * 4), max_runs=1024)
    # The picture itself, and at most the first few of its variants.
    assert batcher.statistics.to_message("", "").execution_count - before <= 33
    assert batcher.load().queued_items == 0


async def test_a_caller_who_leaves_stops_the_runs(service: Service, cat: bytes) -> None:
    batcher = service.repository.model("", "ClassifyImage").graphs["model"].batcher
    set_deadline(Deadline.after(LIMIT_S))
    request = pb.ExplainImageRequest(images=images(cat, cat), max_runs=512)
    task = asyncio.create_task(service.servicer.ExplainImage(request, None))

    async def begun() -> None:
        while not batcher.load().queued_items:
            await asyncio.sleep(0)

    await within(begun(), LIMIT_S)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await within(task, LIMIT_S)
    assert batcher.load().queued_items == 0


async def test_a_caller_who_leaves_stops_the_search_for_what_the_model_sees(cat: bytes) -> None:
    prepared = 0

    def prepare(image: Image.Image, field: str) -> Floats:
        nonlocal prepared
        prepared += 1
        return DIGIT_PREPARATION.prepare(image, field)

    def check() -> None:
        if prepared >= 5:
            raise DeadlineExceeded("it")

    seen = look(cat, "image", DIGIT_PREPARATION, 10**8)
    with pytest.raises(DeadlineExceeded):
        divide(check, seen.pixels, Preparation(DIGIT_PREPARATION.fit, prepare), 400)
    # Where nothing is left to see, the whole picture is prepared as well.
    assert prepared <= 6


async def test_of_a_large_picture_only_what_the_model_sees_is_kept() -> None:
    one = Image.new("RGB", (6_000, 8_000))
    ImageDraw.Draw(one).rectangle((2_500, 1_000, 3_500, 7_000), "white")
    content = encode(one, "PNG")
    before = resident_bytes()
    seen = look(content, "image", DIGIT_PREPARATION, 10**8)
    assert (seen.width, seen.height) == (6_000, 8_000)
    # It is 144 MB.
    assert seen.pixels.nbytes < 1_000_000
    assert resident_bytes() - before < 20_000_000


async def test_limits_are_told() -> None:
    limits = {one.method.rpartition("/")[2]: one for one in describe(Bounds(), 2**20)}
    assert (limits["ExplainImage"].max_items, limits["ExplainImage"].max_runs) == (4, 1024)
    assert limits["ClassifyImage"].max_runs == 0
    bounds = Bounds(explain_image=ExplainBounds(max_items=2, max_runs=64))
    told = {one.method.rpartition("/")[2]: one for one in describe(bounds, 2**20)}["ExplainImage"]
    assert (told.max_items, told.max_runs) == (2, 64)
