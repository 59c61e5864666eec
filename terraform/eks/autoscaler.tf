# Nodes, within the bounds of each group of `aws/`, as pods wait for one or leave one empty. EKS
# tags the groups so that it finds them.

data "aws_iam_role" "autoscaler" {
  name = "${var.cluster}-autoscaler"
}

resource "helm_release" "autoscaler" {
  name       = "cluster-autoscaler"
  repository = "https://kubernetes.github.io/autoscaler"
  chart      = "cluster-autoscaler"
  version    = "9.53.0"
  namespace  = "kube-system"
  values = [yamlencode({
    fullnameOverride = "cluster-autoscaler"
    # Of the cluster's own minor version.
    image         = { tag = "v1.34.2" }
    autoDiscovery = { clusterName = data.aws_eks_cluster.this.name }
    awsRegion     = var.region
    # A pod that may run anywhere gets no node of those for jobs.
    extraArgs          = { expander = "priority" }
    expanderPriorities = { "20" = ["^eks-serving-"], "10" = [".*"] }
    rbac = {
      serviceAccount = {
        name        = "cluster-autoscaler"
        annotations = { "eks.amazonaws.com/role-arn" = data.aws_iam_role.autoscaler.arn }
      }
    }
    resources = {
      requests = { cpu = "50m", memory = "256Mi" }
      limits   = { cpu = "500m", memory = "256Mi" }
    }
  })]
}
