"""Executing the chapters whose inputs changed, side by side, into a cache that pages are rendered from.

The cache is jupyter-cache's, which finds a chapter by its code cells. Beside it lies a file for each chapter with the
state of what it read (`study.building.inputs`): a chapter whose code cells and inputs are what they were is not run.
"""

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbconvert.filters import strip_ansi
from nbformat import NotebookNode
from tqdm import tqdm

from ctnet.files import write_text
from ctnet.processes import cores
from study.building.inputs import Places, commit
from study.building.kernels import Zygote, forked_kernel

RECORDING = Path(__file__).parent / "recording"
BEGUN = "begun\t"  # the line of a log that the recording has begun
SEVERAL = 3  # chapters, from which on a process that imports for all of them is worth its start
START = 3600  # seconds that a kernel may take to start: only one that hangs takes them


class Failure(Exception):
    """Why a chapter could not be executed, in one line: its name, the code cell that failed, and the error.

    Args:
        chapter: its name.
        notebook: as far as it was executed.
        error: what it ended with.
        place: of the code cell that failed, from 1 on; the first with an error unless given.
    """

    def __init__(self, chapter: str, notebook: NotebookNode, error: str, place: int | None = None) -> None:
        cells = _code_cells(notebook)
        if place is None:  # the first that has an error, or was never begun or ended
            faulty = [any(output.output_type == "error" for output in cell.outputs) for cell in cells]
            begun = [cell.execution_count is not None for cell in cells]
            place = faulty.index(True) + 1 if True in faulty else max(sum(begun), 1)
        lines = cells[place - 1].source.strip().splitlines() if cells else []
        self.chapter = chapter
        super().__init__(f"{chapter}, code cell {place} ({lines[0] if lines else 'empty'}): {error.strip()}")


class Chapters:
    """The executed chapters of a book.

    Args:
        folder: for the cache.
        sources: chapters' notebooks, by name.
        places: where they read what they depend on.
        root: folder of the clone.
        environment: hash of what every chapter depends on.
    """

    def __init__(self, folder: Path, sources: Mapping[str, Path], places: Places, root: Path, environment: str) -> None:
        self.folder, self.places, self.root = folder, places, root
        self.notebooks = {name: nbformat.read(path, as_version=4) for name, path in sources.items()}
        self.sources = dict(sources)
        self.environment = environment
        self._clients: dict[str, NotebookClient] = {}
        self._stopped = False
        self.cache = _opened(folder / "cache")
        self.records = {name: self._record(name) for name in self.sources}

    def _record(self, name: str) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(self._record_file(name).read_text())
            return found if found.keys() >= {"code", "environment", "inputs", "seconds", "outputs"} else {}
        except (OSError, ValueError):
            return {}

    def _record_file(self, name: str) -> Path:
        return self.folder / f"{name.replace('/', '--')}.json"

    def _traceback_file(self, name: str) -> Path:
        return self._record_file(name).with_suffix(".traceback")

    def code(self, name: str) -> str:
        """Hash of a chapter's code cells, by which the cache finds it."""
        _, hashed = self.cache.create_hashed_notebook(self.notebooks[name])
        return str(hashed)

    def outdated(self) -> list[str]:
        """Chapters to be executed, those that took longest first; those that tell of the build itself come last."""
        late = [name for name in self.sources if self._tells_of_build(name)]
        found = [name for name in self.sources if name not in late and not self._is_current(name)]
        found.sort(key=lambda name: -self.records[name].get("seconds", float("inf")))
        told = commit(self.root)
        return found + [
            name for name in late if found or not self._is_current(name) or self.records[name].get("commit") != told
        ]

    def _tells_of_build(self, name: str) -> bool:
        return bool(self.notebooks[name].metadata.get("ctnet", {}).get("tells_of_build"))

    def _is_current(self, name: str) -> bool:
        record, code = self.records[name], self.code(name)
        if not record or (record["code"], record["environment"]) != (code, self.environment):
            return False
        try:
            self.cache.match_cache_notebook(self.notebooks[name])
        except KeyError:
            return False
        return self.places.unchanged(record["inputs"])

    def outputs(self, name: str) -> str:
        """A token of what the last execution of a chapter gave."""
        return str(self.records[name].get("outputs", ""))

    def execute(
        self, names: Sequence[str], jobs: int, tell: Callable[[str], object], imports: Sequence[str] = ()
    ) -> list[Failure]:
        """Execute some chapters, `jobs` at a time, each in its own folder; all of them, whichever fail.

        Args:
            names: in the order in which they are started.
            jobs: number of kernels.
            tell: called with a line on every chapter that has ended.
            imports: modules, none of the clone, that are imported once for all chapters when there are several.

        Returns:
            The chapters that failed.
        """
        if not names:
            return []
        failures, told = [], commit(self.root)
        variables = self._variables(jobs)
        zygote = Zygote(imports, variables) if len(names) >= SEVERAL else None
        known = {name: self.records[name].get("seconds") for name in names}
        with (
            tempfile.TemporaryDirectory() as scratch,
            ThreadPoolExecutor(jobs) as pool,
            _told(known, jobs, tell) as done,
        ):
            logs = {name: Path(scratch, f"{place}.log") for place, name in enumerate(names)}
            pending = {pool.submit(self._run, name, logs[name], variables, zygote): name for name in names}
            try:
                while pending:
                    finished, _ = wait(pending, return_when=FIRST_COMPLETED)
                    for future in finished:
                        name = pending.pop(future)
                        failure = self._keep(name, future, logs[name], told)
                        failures += [failure] if failure else []
                        done(name, failure)
            except BaseException:  # such as Ctrl-C, which kernels do not see
                pool.shutdown(wait=False, cancel_futures=True)
                self._stopped = True
                for client in list(self._clients.values()):
                    _kill(client)
                raise
            finally:
                if zygote:
                    zygote.close()
        return sorted(failures, key=lambda failure: list(self.sources).index(failure.chapter))

    def _variables(self, jobs: int) -> dict[str, str]:
        """The environment of kernels, but for what is told one of them alone."""
        paths = [str(RECORDING), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        variables = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(paths),
            "CTNET_RECORD_ROOTS": os.pathsep.join(map(str, (*self.places.roots, self.places.measured))),
            "CTNET_MEASURED": str(self.places.measured),
            "CTNET_RESULTS": str(self.places.results),
        }
        variables.pop("PYTHONPYCACHEPREFIX", None)  # bytecode elsewhere would not tell of which file of the roots it is
        if jobs > 1:
            variables.setdefault("OMP_NUM_THREADS", str(max(1, cores() // jobs)))
        return variables

    def _run(
        self, name: str, log: Path, variables: Mapping[str, str], zygote: Zygote | None
    ) -> tuple[NotebookNode, float, float]:
        """An executed copy of a chapter, when its kernel was started, and how long it took."""
        notebook = nbformat.from_dict(self.notebooks[name])
        kernel = notebook.metadata.get("kernelspec", {}).get("name", "python3")
        client = NotebookClient(
            notebook,
            timeout=None,
            startup_timeout=START,
            record_timing=False,  # the cache finds a chapter by its cells' metadata too
            km=forked_kernel(kernel, zygote) if zygote else None,
            kernel_name=kernel,
            extra_arguments=["--log-level=ERROR"],  # its start is not worth a line
            resources={"metadata": {"path": str(self.sources[name].parent)}},
        )
        client.on_cell_start = self._go_on
        log.touch()
        self._traceback_file(name).unlink(missing_ok=True)
        began, clock = time.time(), time.perf_counter()
        self._clients[name] = client
        try:
            client.execute(env={**variables, "CTNET_RECORD": str(log)}, cleanup_kc=True)
        except CellExecutionError as error:
            self._traceback_file(name).write_text(strip_ansi(error.traceback), encoding="utf-8")
            told = f"{error.ename}: {error.evalue.strip()}; see {self._traceback_file(name)}"
            raise Failure(name, notebook, told) from error
        except Exception as error:
            raise Failure(name, notebook, f"{type(error).__name__}: {error}") from error
        finally:
            del self._clients[name]
        for place, cell in enumerate(_code_cells(notebook), start=1):
            if said := "".join(o["text"] for o in cell.outputs if o.output_type == "stream" and o.name == "stderr"):
                first = (said.strip() or "an empty line").splitlines()[0]
                raise Failure(name, notebook, f"wrote a warning: {first}", place)
        return notebook, began, time.perf_counter() - clock

    def _go_on(self, **told: Any) -> None:
        """Refuse the next cell when the build was stopped, which kernels that were just started did not see."""
        if self._stopped:
            raise RuntimeError("the build was stopped")

    def _keep(self, name: str, future: "Future[Any]", log: Path, told: str) -> Failure | None:
        """Put an executed chapter into the cache; why it failed if it did."""
        self._record_file(name).unlink(missing_ok=True)  # till the cache has the new outputs
        self.records[name] = {}
        try:
            notebook, began, seconds = future.result()
            lines = log.read_text().splitlines()
            if BEGUN not in lines:
                raise Failure(name, notebook, "nothing tells what it has read: another `sitecustomize` goes before")
        except Failure as failure:
            return failure
        self.cache.cache_notebook_bundle(
            CacheBundleIn(notebook, str(self.sources[name]), data={"execution_seconds": seconds}),
            check_validity=False,
            overwrite=True,
        )
        self.cache.match_cache_notebook(self.notebooks[name])  # or myst-nb would execute it once more
        record = {
            "code": self.code(name),
            "environment": self.environment,
            "inputs": self.places.states((line for line in lines if line != BEGUN), began),
            "seconds": seconds,
            "outputs": f"{began}",
            "commit": told,
        }
        write_text(self._record_file(name), json.dumps(record, indent=1))
        self.records[name] = record
        return None


def _kill(client: NotebookClient) -> None:
    provisioner: Any = client.km and client.km.provisioner
    if provisioner and provisioner.process:
        provisioner.process.kill()


def _code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def _opened(folder: Path) -> Any:
    """The cache in a folder, begun anew where it cannot be read."""
    try:
        cache = get_cache(folder)
        cache.list_cache_records()
    except Exception:
        shutil.rmtree(folder, ignore_errors=True)
        cache = get_cache(folder)
    return cache


@contextmanager
def _told(
    seconds: Mapping[str, float | None], jobs: int, tell: Callable[[str], object]
) -> Iterator[Callable[[str, Failure | None], None]]:
    """Tells how far the chapters are: a bar on a terminal, lines elsewhere.

    Args:
        seconds: what each took the last time, as far as that is known.
        jobs: chapters side by side.
        tell: takes lines.
    """
    began, left = time.perf_counter(), dict(seconds)
    took: list[float] = []
    with tqdm(total=len(seconds), unit="chapter", disable=not sys.stderr.isatty(), bar_format=_BAR) as bar:

        def done(name: str, failure: Failure | None) -> None:
            del left[name]
            took.append(time.perf_counter() - began)
            usual = jobs * took[-1] / len(took)  # of a chapter that was never executed
            rest = sum(known if known is not None else usual for known in left.values()) / jobs
            bar.set_postfix_str(f"{name}, about {rest:.0f} s left")
            bar.update()
            if failure or bar.disable:
                ended = f"failed: {failure}" if failure else name
                tell(f"chapter {len(took)} of {len(seconds)}: {ended}; about {rest:.0f} s left")

        yield done


_BAR = "{desc}{bar} {n_fmt} of {total_fmt} {unit}s{postfix}"


def report(failures: Iterable[Failure]) -> str:
    """What a build that failed says last: every chapter and cell, with the error."""
    lines = [str(failure) for failure in failures]
    return "\n".join(
        [f"The book was not built: {len(lines)} of its chapters failed. The pages are what they were.", *lines]
    )
