import { render } from "solid-js/web";

import { App } from "./App";
import "./style.css";

const page = document.getElementById("page")!;
page.replaceChildren();
render(() => <App />, page);
