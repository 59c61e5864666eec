# A cluster of one node on this machine, with the operators; the chart by values-dev.yaml.

resource "kind_cluster" "this" {
  name           = var.name
  node_image     = var.kubernetes
  wait_for_ready = true
}

provider "helm" {
  kubernetes = {
    host                   = kind_cluster.this.endpoint
    cluster_ca_certificate = kind_cluster.this.cluster_ca_certificate
    client_certificate     = kind_cluster.this.client_certificate
    client_key             = kind_cluster.this.client_key
  }
}

provider "kubernetes" {
  host                   = kind_cluster.this.endpoint
  cluster_ca_certificate = kind_cluster.this.cluster_ca_certificate
  client_certificate     = kind_cluster.this.client_certificate
  client_key             = kind_cluster.this.client_key
}

locals {
  plan = "${path.module}/../../feature_repo/${var.repository}/plan/helm"
}

module "platform" {
  source     = "../platform"
  prometheus = null
  install    = var.install
  values = [
    file("${local.plan}/values.yaml"),
    file("${local.plan}/rules.yaml"),
    file("${local.plan}/dashboards.yaml"),
    file("${path.module}/../../helm/headwater/values-dev.yaml"),
  ]
}
